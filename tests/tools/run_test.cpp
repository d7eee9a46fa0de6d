// The contract of `redline run` and `redline chat`, on the real model with a few tokens.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/json_keys.h"
#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

using Json = nlohmann::json;

Json run_json(const std::string& flags) {
  const ShellResult result = redline("run " + test_model() + " --json " + flags);
  EXPECT_EQ(result.status, 0) << result.err;
  return Json::parse(result.out);
}

TEST(Run, JsonHasTheKeysThatTheDocumentShows) {
  const Json found = run_json("-p 'The sky is' --raw -n 3 --logprobs 2");
  EXPECT_EQ(missing_keys(documented("run"), found), "");
  EXPECT_EQ(missing_keys(found, documented("run")), "");
}

TEST(Run, ExplainedTimeSumsAndIsShownInJsonAndText) {
  const Json json = run_json("-p 'The sky is' --raw -n 3 --explain");
  const Json& explanation = json.at("explanation");
  EXPECT_EQ(missing_keys(documented("explanation"), explanation), "");
  EXPECT_EQ(missing_keys(explanation, documented("explanation")), "");
  const Json& waterfall = explanation.at("waterfall");
  double sum = 0;
  for (const Json& term : waterfall.at("terms_s"))
    if (!term.is_null()) sum += term.get<double>();
  EXPECT_NEAR(sum, json.at("utilization").at("wall_s"), 1e-9);
  EXPECT_EQ(waterfall.at("terms_s").at("idle"), 0.0) << "a request was under way all the time";
  for (const char* name : {"prefill", "decode"}) {
    const Json& phase = waterfall.at("phases").at(name);
    EXPECT_DOUBLE_EQ(phase.at("mfu"), json.at("utilization")
                                          .at("phases")
                                          .at(name)
                                          .at("ratios")
                                          .at("wall")
                                          .at(waterfall.at("peak_basis").get<std::string>())
                                          .at("mfu"));
    double busy_s = 0;
    for (const Json& kind : phase.at("kinds")) busy_s += kind.at("wall_s").get<double>();
    EXPECT_NEAR(busy_s + phase.at("terms_s").at("gap").get<double>(), phase.at("wall_s"), 1e-9) << name;
  }
  const ShellResult text = redline("run " + test_model() + " -p 'The sky is' --raw -n 3 --explain");
  for (const char* part : {"memory bound penalty", "ideal compute", "decode at batch 1"})
    EXPECT_NE(text.err.find(part), std::string::npos) << part << " in\n" << text.err;
  EXPECT_FALSE(run_json("-p a -n 1").contains("explanation"));
}

TEST(Run, NTokensTakeOnePrefillAndNMinusOneDecodeSteps) {
  const Json json = run_json("-p 'The sky is' --raw -n 5 --ignore-eos");
  const Json& phases = json.at("utilization").at("phases");
  EXPECT_EQ(json.at("token_ids").size(), 5u);
  EXPECT_EQ(json.at("finish_reason"), "length");
  EXPECT_EQ(phases.at("prefill").at("tokens"), json.at("prompt_token_ids").size());
  EXPECT_EQ(phases.at("decode").at("steps"), 4);
  EXPECT_EQ(phases.at("decode").at("tokens"), 4);
}

TEST(Run, ALoadedSessionGivesTheSameAnswerWithoutComputingItsPartAgain) {
  const ScratchDirectory scratch;
  const std::string file = shell_word(scratch.path("session"));
  const std::string flags = "--raw -c 512 -n 6 --ignore-eos -f " +
                            shell_word(scratch.write("prompt", std::string(300, 'a') + " The sea is blue."));
  const Json without = run_json(flags), saving = run_json(flags + " --save-session " + file),
             loading = run_json(flags + " --load-session " + file);
  EXPECT_EQ(without.at("token_ids"), saving.at("token_ids"));
  EXPECT_EQ(without.at("token_ids"), loading.at("token_ids"));
  EXPECT_EQ(without.at("cached_tokens"), 0);
  const auto num_prompt = loading.at("prompt_token_ids").size(),
             cached = loading.at("cached_tokens").get<std::size_t>();
  EXPECT_EQ(cached, (num_prompt - 1) / 16 * 16);
  EXPECT_EQ(loading.at("utilization").at("phases").at("prefill").at("tokens"), num_prompt - cached);
  const ShellResult refused =
      redline("run " + test_model() + " " + flags + " --kv-dtype f32 --load-session " + file);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("session: description"), std::string::npos) << refused.err;
}

TEST(Run, PartsSumToTheWholeAsIntegers) {
  const Json json = run_json("-p 'The sky is' -n 4");
  for (const Json& phase : json.at("utilization").at("phases")) {
    const Json &flops = phase.at("flops"), &bytes = phase.at("bytes");
    const auto sum = [](const Json& object, std::initializer_list<const char*> keys) {
      std::int64_t total = 0;
      for (const char* key : keys) total += object.at(key).get<std::int64_t>();
      return total;
    };
    EXPECT_EQ(sum(flops, {"projections", "attention", "ffn", "head"}), flops.at("useful"));
    EXPECT_EQ(sum(bytes, {"weights", "kv_read", "kv_write"}), bytes.at("min"));
    EXPECT_GT(flops.at("useful"), 0);
  }
}

TEST(Run, TheChatTemplateIsAppliedUnlessRaw) {
  const Json chat = run_json("-p Hi -n 1"), raw = run_json("-p Hi -n 1 --raw");
  EXPECT_EQ(raw.at("prompt_token_ids").size(), 1u);
  const ScratchDirectory scratch;
  const std::string messages = scratch.write("messages", R"([{"role": "user", "content": "Hi"}])");
  const ShellResult rendered = redline("template " + test_model() + " --messages " + shell_word(messages));
  EXPECT_EQ(rendered.status, 0) << rendered.err;
  const Json ids = Json::parse(redline("tokenize --json --no-special " + test_model() + " -f " +
                                       shell_word(scratch.write("text", rendered.out)))
                                   .out);
  EXPECT_EQ(chat.at("prompt_token_ids"), ids.at("ids"));
}

TEST(Run, ThePromptComesFromAFlagAFileOrAPipeAlike) {
  const ScratchDirectory scratch;
  const std::string file = shell_word(scratch.write("prompt", "One two three"));
  const Json expected = run_json("--raw -n 2 -p 'One two three'");
  for (const std::string& flags : {"-f " + file, "<" + file, "-p - <" + file}) {
    const Json found = run_json("--raw -n 2 " + flags);
    EXPECT_EQ(found.at("prompt_token_ids"), expected.at("prompt_token_ids"));
    EXPECT_EQ(found.at("token_ids"), expected.at("token_ids"));
  }
  const std::string ids = shell_word(scratch.write("ids", expected.at("prompt_token_ids").dump()));
  EXPECT_EQ(run_json("-n 2 --prompt-tokens " + ids).at("token_ids"), expected.at("token_ids"));
}

TEST(Run, ASeedRepeatsTheAnswer) {
  const std::string flags = "-p 'Tell me a story' -n 8 --temp 1.5 --seed ";
  const Json first = run_json(flags + "7").at("token_ids");
  EXPECT_EQ(run_json(flags + "7 --threads 1").at("token_ids"), first);
  EXPECT_NE(run_json(flags + "8").at("token_ids"), first);
}

TEST(Run, LogprobsAreThoseOfTheChosenAndTheLikeliestTokens) {
  const Json json = run_json("-p 'The sky is' --raw -n 3 --logprobs 4");
  ASSERT_EQ(json.at("logprobs").size(), json.at("token_ids").size());
  for (std::size_t i = 0; i < json.at("logprobs").size(); ++i) {
    const Json& token = json.at("logprobs")[i];
    EXPECT_EQ(token.at("id"), json.at("token_ids")[i]);
    ASSERT_EQ(token.at("top").size(), 4u);
    EXPECT_EQ(token.at("top")[0].at("id"), token.at("id"));  // greedy
    EXPECT_LE(token.at("logprob"), 0.0);
  }
  EXPECT_TRUE(run_json("-p a -n 1").at("logprobs").is_null());
}

TEST(Run, TextGoesToStandardOutputAndTheReportToStandardError) {
  const ShellResult result = redline("run " + test_model() + " -p 'The sky is' --raw -n 4");
  const Json json = run_json("-p 'The sky is' --raw -n 4");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, json.at("text").get<std::string>() + "\n");
  for (const char* part : {"prefill", "decode", "MFU", "MBU", "first token"})
    EXPECT_NE(result.err.find(part), std::string::npos) << part << " in\n" << result.err;
  EXPECT_EQ(result.err.find('\033'), std::string::npos) << "drawn on what is no terminal";
}

TEST(Run, CtrlCEndsAnAnswerWithItsReportAndStatus130) {
  const ScratchDirectory scratch;
  const std::string out = shell_word(scratch.path("out"));
  const ShellResult result =
      redline("run " + test_model() + " -p 'Write a long story' -n 5000 --ignore-eos >" + out +
              " & pid=$!; i=0; until [ -s " + out +
              " ] || [ $i -gt 600 ]; do sleep 0.1; i=$((i + 1)); done; "
              "kill -INT $pid; wait $pid; status=$?; cat " +
              out + "; exit $status");
  EXPECT_EQ(result.status, 130) << result.err;
  EXPECT_NE(result.out, "");
  EXPECT_NE(result.err.find("decode"), std::string::npos) << result.err;
}

TEST(Run, TraceIsJsonWithAnEventForEveryStep) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path("trace.json");
  ASSERT_EQ(redline("run " + test_model() + " -p 'The sky is' --raw -n 3 --trace " + shell_word(path)).status,
            0);
  const Json trace = Json::parse(shell("cat " + shell_word(path)).out);
  EXPECT_GE((trace.is_array() ? trace : trace.at("traceEvents")).size(), 6u);
}

TEST(Run, ARequestThatCannotRunSaysBothNumbers) {
  const ShellResult result =
      redline("run " + test_model() + " -p 'one two three four five six seven' --ctx 16 -n 1");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("16"), std::string::npos) << result.err;
}

TEST(Run, TwoPromptsAreWrongUsage) {
  EXPECT_EQ(redline("run " + test_model() + " -p a -f b").status, 2);
  EXPECT_EQ(redline("run " + test_model() + " -p a --temp -1").status, 2);
  EXPECT_EQ(redline("run " + test_model() + " -p a --dtype q9").status, 2);
  EXPECT_EQ(redline("run " + test_model() + " -p a --ctx 4Q").status, 2);
}

TEST(Chat, ReusesItsHistoryFromThePrefixCache) {
  const ScratchDirectory scratch;
  const std::string lines = scratch.write(
      "lines", "Say one word about rivers.\nAnd one about hills.\n/stats\n/reset\n/help\n/exit\nnever\n");
  const ShellResult result = redline("chat " + test_model() + " -n 6 <" + shell_word(lines));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n') >= 2, true) << result.out;
  EXPECT_NE(result.err.find("/reset"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("prefix cache"), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("prefix cache 0 of"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace redline::tests
