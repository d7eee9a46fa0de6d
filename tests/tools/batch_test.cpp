// redline batch: OpenAI's lines in and out, and going on after any end.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/json_keys.h"
#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

using Json = nlohmann::json;

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::vector<Json> lines_of(const std::string& path) {
  std::istringstream text(contents(path));
  std::vector<Json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::string completion(const std::string& id, const std::string& prompt, int max_tokens) {
  return Json{{"custom_id", id},
              {"method", "POST"},
              {"url", "/v1/completions"},
              {"body", {{"prompt", prompt}, {"max_tokens", max_tokens}, {"temperature", 0}}}}
             .dump() +
         "\n";
}

std::string batch_command(const ScratchDirectory& scratch) {
  return "batch " + test_model() + " " + shell_word(scratch.path("in.jsonl")) + " " +
         shell_word(scratch.path("out.jsonl")) + " -c 256";
}

TEST(Batch, AnswersEveryLineAsTheServerWould) {
  const ScratchDirectory scratch;
  scratch.write(
      "in.jsonl",
      completion("one", "The sea", 5) + "\n" +
          R"({"custom_id":"chat","method":"POST","url":"/v1/chat/completions","body":)"
          R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":3}})"
          "\n" +
          completion("broken", "x", -1) +
          R"({"custom_id":"lost","method":"POST","url":"/v1/nothing","body":{}})"
          "\n"
          "not JSON\n" +
          completion("one", "again", 2) +
          R"({"custom_id":"s","method":"POST","url":"/v1/completions","body":{"prompt":"x","stream":true}})"
          "\n");
  const ShellResult result = redline(batch_command(scratch) + " --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json summary = Json::parse(result.out);
  EXPECT_EQ(missing_keys(documented("batch"), summary), "");
  EXPECT_EQ(missing_keys(summary, documented("batch")), "") << "not shown in docs/json.md";
  EXPECT_EQ(summary.at("answered"), 2);
  EXPECT_EQ(summary.at("refused"), 5);

  std::map<std::string, Json> by_id;
  std::vector<Json> problems;
  for (const Json& line : lines_of(scratch.path("out.jsonl"))) {
    EXPECT_NE(line.at("response").is_null(), line.at("error").is_null());
    if (line.at("error").is_null())
      by_id[line.at("custom_id")] = line.at("response");
    else
      problems.push_back(line.at("error"));
  }
  ASSERT_EQ(by_id.size(), 4u);
  const Json run = Json::parse(redline("run " + test_model() + " --raw -p 'The sea' -n 5 --json").out);
  EXPECT_EQ(by_id["one"].at("status_code"), 200);
  EXPECT_EQ(by_id["one"].at("body").at("choices").at(0).at("text"), run.at("text"));
  EXPECT_EQ(by_id["chat"].at("body").at("choices").at(0).at("message").at("role"), "assistant");
  EXPECT_EQ(by_id["broken"].at("status_code"), 400);
  EXPECT_EQ(by_id["broken"].at("body").at("error").at("param"), "max_tokens");
  EXPECT_EQ(by_id["lost"].at("status_code"), 404);
  ASSERT_EQ(problems.size(), 3u);
  for (const Json& problem : problems)
    EXPECT_EQ(problem.at("message").get<std::string>().find("line " + problem.at("line").dump() + ": "), 0u);
}

TEST(Batch, AKilledRunGoesOnWhereItEnded) {
  const ScratchDirectory scratch;
  std::string in = "no JSON\n";
  for (int i = 0; i < 40; ++i) in += completion("id-" + std::to_string(i), "Number " + std::to_string(i), 12);
  scratch.write("in.jsonl", in);
  const std::string out = shell_word(scratch.path("out.jsonl"));
  // Killed once some results are there, and what it wrote last is cut in half.
  const ShellResult killed =
      shell(shell_word(REDLINE_BINARY_DIR "/redline") + " " + batch_command(scratch) +
            " --max-num-seqs 2 & pid=$!; while [ $(cat " + out +
            " 2>/dev/null | wc -l) -lt 5 ] && kill -0 $pid; do sleep 0.01; done; kill -9 $pid; wait $pid; "
            "size=$(stat -c %s " +
            out + "); truncate -s $((size - 20)) " + out);
  const std::string left = contents(scratch.path("out.jsonl"));
  const auto num_before = std::ranges::count(left, '\n');
  ASSERT_LT(num_before, 41) << killed.err;
  const ShellResult result = redline(batch_command(scratch) + " --json");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out).at("skipped"), num_before);
  std::map<std::string, int> seen;
  for (const Json& line : lines_of(scratch.path("out.jsonl")))
    ++seen[line.at("custom_id").is_null() ? "" : line.at("custom_id").get<std::string>()];
  EXPECT_EQ(seen.size(), 41u);
  for (const auto& [id, count] : seen) EXPECT_EQ(count, 1) << id;

  const ShellResult again = redline(batch_command(scratch) + " --json");
  EXPECT_EQ(Json::parse(again.out).at("skipped"), 41);
  EXPECT_EQ(lines_of(scratch.path("out.jsonl")).size(), 41u);
}

TEST(Batch, AnotherFileIsNotWrittenTo) {
  const ScratchDirectory scratch;
  scratch.write("in.jsonl", completion("one", "x", 1));
  scratch.write("out.jsonl", "{\"a\": 1}\n");
  const ShellResult result = redline(batch_command(scratch));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("out.jsonl: line 1: "), std::string::npos) << result.err;
  EXPECT_EQ(contents(scratch.path("out.jsonl")), "{\"a\": 1}\n");
  EXPECT_EQ(redline("batch a b").status, 2);
  EXPECT_EQ(redline("batch a b c --model d").status, 2);
}

}  // namespace
}  // namespace redline::tests
