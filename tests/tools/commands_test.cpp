// The contracts of bench, eval, inspect, probe and template.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/tools/json_keys.h"
#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

using Json = nlohmann::json;

Json json_of(const std::string& command) {
  const ShellResult result = redline(command);
  EXPECT_EQ(result.status, 0) << result.err;
  return Json::parse(result.out);
}

void expect_documented_keys(const std::string& command, const Json& found) {
  EXPECT_EQ(missing_keys(documented(command), found), "");
  EXPECT_EQ(missing_keys(found, documented(command)), "") << "not shown in docs/json.md";
}

TEST(Bench, RowsAreNamedAsLlamaBenchDoes) {
  const Json rows = json_of("bench " + test_model() + " -p 8,3 -n 2 -d 0,5 --batch 1,2 -r 2 --json");
  expect_documented_keys("bench", rows);
  ASSERT_EQ(rows.size(), 12u);
  EXPECT_EQ(rows[0].at("test"), "pp8");
  EXPECT_EQ(rows[2].at("test"), "tg2");
  EXPECT_EQ(rows[3].at("test"), "pp8 @ d5");
  for (const Json& row : rows) {
    const std::int64_t batch = row.at("batch"),
                       tokens = row.at("n_prompt").get<std::int64_t>() + row.at("n_gen").get<std::int64_t>();
    EXPECT_EQ(row.at("samples_ts").size(), 2u);
    EXPECT_GT(row.at("avg_ts"), 0.0);
    EXPECT_EQ(row.at("utilization").at("tokens"), 2 * batch * tokens);
  }
}

TEST(Bench, HoldsEachRepetitionAgainstPeaksMeasuredBesideIt) {
  const Json rows = json_of("bench " + test_model() + " -p 8 -n 2 -r 3 --paired --json");
  ASSERT_EQ(rows.size(), 2u);
  for (const Json& row : rows) {
    EXPECT_EQ(missing_keys(documented("bench --paired"), row.at("paired")), "");
    std::vector<double> shares;
    double bytes = 0, busy_s = 0;
    for (const Json& sample : row.at("paired").at("samples")) {
      shares.push_back(sample.at("mbu"));
      busy_s += sample.at("busy_s").get<double>();
      bytes +=
          shares.back() * sample.at("read_bytes_per_s").get<double>() * sample.at("busy_s").get<double>();
    }
    ASSERT_EQ(shares.size(), 3u);
    std::sort(shares.begin(), shares.end());
    EXPECT_EQ(row.at("paired").at("mbu"), shares[1]) << "the median";
    const Json& all = row.at("utilization");
    EXPECT_NEAR(busy_s, all.at("busy_s"), 1e-9);
    EXPECT_NEAR(bytes / all.at("bytes").at("min").get<double>(), 1, 1e-9);
  }
}

TEST(Bench, CountsWhatTheDepthCosts) {
  const Json rows = json_of("bench " + test_model() + " -p 0 -n 1 -d 0,7 -r 1 --json");
  const auto kv_read = [&](std::size_t row) {
    return rows[row].at("utilization").at("bytes").at("kv_read").get<std::int64_t>();
  };
  const Json model = json_of("inspect " + test_model() + " --on h100 --json");
  EXPECT_EQ(kv_read(0), 0);
  EXPECT_EQ(kv_read(1), 7 * model.at("kv_bytes_per_token").get<std::int64_t>());
}

TEST(Bench, ExplainsEveryRowAndDrawsThem) {
  const ScratchDirectory scratch;
  const std::string page = scratch.path("report.html");
  const Json rows = json_of("bench " + test_model() + " -p 40 -n 3 -r 1 --explain --json --report " +
                            shell_word(page) + " --on a100");
  ASSERT_EQ(rows.size(), 2u);
  for (const Json& row : rows) {
    const Json& explanation = row.at("explanation");
    EXPECT_EQ(missing_keys(documented("explanation"), explanation), "");
    EXPECT_NEAR(explanation.at("waterfall").at("wall_s"), row.at("utilization").at("wall_s"), 1e-9);
    ASSERT_EQ(explanation.at("why").size(), 1u) << "a row is one phase's";
    for (const Json& change : explanation.at("why")[0].at("would_give")) EXPECT_GT(change.at("speedup"), 0.0);
  }
  EXPECT_EQ(shell("grep -c '</svg>' " + shell_word(page)).out, "3\n");
  EXPECT_EQ(redline("bench " + test_model() + " -p 4 -n 0 -r 1 --on h101").status, 2);
  const std::string cost = " --price 1 --json --from " + shell_word(scratch.write("rows.json", rows.dump()));
  EXPECT_EQ(json_of("cost" + cost).at("run").at("input_tokens"), 40);
}

// Spans of the trace by what they are: "step", "stretch" or a request's.
std::map<std::string, int> spans_of(const std::string& trace) {
  std::map<std::string, int> spans;
  for (const Json& event : Json::parse(shell("cat " + shell_word(trace)).out)) {
    if (event.at("ph") == "B") ++spans["request"];
    if (event.at("ph") == "X" && event.at("pid") == 1)
      ++spans[event.at("tid") == 1 ? "step" : event.at("tid") == 2 ? "operation" : event.at("name")];
  }
  return spans;
}

TEST(Bench, TracesTheStepsThatItMeasures) {
  const ScratchDirectory scratch;
  const std::string trace = scratch.path("trace.json");
  json_of("bench " + test_model() + " -p 9 -n 3 -r 2 --json --trace " + shell_word(trace));
  std::map<std::string, int> spans = spans_of(trace);
  EXPECT_EQ(spans["step"], 2 * (1 + 3));
  EXPECT_EQ(spans["pp9"], 2);
  EXPECT_EQ(spans["tg3"], 2);
  EXPECT_EQ(spans["request"], 0);
}

TEST(Bench, SwitchesEachTechniqueOffAndOn) {
  const Json signatures = json_of("bench signatures " + test_model() +
                                  " --only batching --only prefix --num-prompts 24 -r 1 --json");
  expect_documented_keys("bench signatures", signatures);
  std::map<std::string, std::map<std::string, Json>> figures;
  for (const Json& signature : signatures)
    for (const Json& figure : signature.at("figures"))
      figures[signature.at("name")][figure.at("meter")] = figure;
  ASSERT_EQ(figures.size(), 2u);
  const auto grows = [&](const char* name, const char* meter) {
    const Json& figure = figures.at(name).at(meter);
    return figure.at("on").get<double>() / figure.at("off").get<double>();
  };
  EXPECT_GT(grows("batching", "seats taken"), 1.1);
  EXPECT_LT(grows("prefix", "prompt tokens computed"), 0.4);
  EXPECT_EQ(figures.at("batching").at("seats taken").at("verdict"), "holds");
  EXPECT_TRUE(figures.at("prefix").at("MFU").at("verdict").is_null());
  EXPECT_EQ(json_of("bench signatures " + test_model() + " --only attention --json").size(), 1u);
  EXPECT_EQ(redline("bench signatures " + test_model() + " --only speed").status, 2);
}

// A server of the test model, for one shell command that names it $url.
ShellResult with_server(const std::string& flags, const std::string& command) {
  return shell("log=$(mktemp); " + shell_word(REDLINE_BINARY_DIR "/redline") + " serve " + test_model() +
               " --port 0 --ctx 512 " + flags +
               " 2>$log & server=$!; for i in $(seq 600); do url=$(sed -n 's/.* is served at //p' $log); "
               "[ -z \"$url\" ] || break; sleep 0.1; done; " +
               shell_word(REDLINE_BINARY_DIR "/redline") + " " + command +
               "; status=$?; kill $server; wait $server; rm $log; exit $status");
}

TEST(BenchServe, WritesTheDocumentedObjectAndCountsWhatItSent) {
  const ShellResult result = with_server(
      "",
      "bench serve $url --num-prompts 5 --num-warmups 1 --max-concurrency 2 --prefix-len 40 --input-len 7 "
      "--output-len 3 --ignore-eos --goodput ttft:100000 tpot:100000 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json found = Json::parse(result.out);
  expect_documented_keys("bench serve", found);
  EXPECT_EQ(found.at("completed"), 5);
  EXPECT_EQ(found.at("failed"), 0);
  EXPECT_EQ(found.at("total_output_tokens"), 15);
  EXPECT_EQ(found.at("request_goodput"), found.at("request_throughput"));
  EXPECT_GE(found.at("cached_input_tokens"), 3 * 32) << "the shared prefix but for its last block";
  EXPECT_GT(found.at("utilization").at("mfu"), 0.0);
  EXPECT_GT(found.at("utilization").at("mbu"), 0.0);
  EXPECT_EQ(found.at("model_id"), "SmolLM2-135M-Instruct.Q4_1");
}

std::int64_t of_both_phases(const Json& utilization, const char* what) {
  return utilization.at("phases").at("prefill").at(what).get<std::int64_t>() +
         utilization.at("phases").at("decode").at(what).get<std::int64_t>();
}

TEST(BenchServe, SeesFromOutsideWhatTheLedgerCounted) {
  const std::string load = "bench serve $url --model " + test_model() +
                           " --num-prompts 5 --max-concurrency 2 --input-len 30 --output-len 6 --ignore-eos "
                           "--max-num-batched-tokens 512 --json ";
  for (const std::string flags : {"", "--metrics-alias vllm"}) {
    const ShellResult result = with_server(flags, load);
    ASSERT_EQ(result.status, 0) << result.err;
    const Json found = Json::parse(result.out);
    const Json &outside = found.at("outside"), &ledger = found.at("utilization");
    expect_documented_keys("top --model", outside);
    EXPECT_EQ(outside.at("server"), flags.empty() ? "redline" : "vllm");
    EXPECT_EQ(outside.at("counts").at("generated_tokens").at("lower"), 30);
    EXPECT_EQ(outside.at("counts").at("computed_prompt_tokens").at("label"), "counted");
    EXPECT_EQ(outside.at("flops").at("useful").at("label"), "derived");
    EXPECT_EQ(outside.at("flops").at("useful").at("lower"), of_both_phases(ledger, "flops"));
    EXPECT_EQ(outside.at("flops").at("useful").at("upper"), of_both_phases(ledger, "flops"));
    EXPECT_EQ(outside.at("bytes").at("min").at("label"), "derived");
    EXPECT_EQ(outside.at("bytes").at("min").at("lower"), of_both_phases(ledger, "bytes"));
    EXPECT_NEAR(outside.at("mfu").at("lower").get<double>() / ledger.at("mfu").get<double>(), 1, 1e-6);
    EXPECT_NEAR(outside.at("mbu").at("upper").get<double>() / ledger.at("mbu").get<double>(), 1, 1e-6);
  }
}

TEST(BenchServe, BoundsFromOutsideHoldTheLedgerWherePromptsAreSharedAndCut) {
  const ShellResult result = with_server("--metrics-alias vllm --max-num-batched-tokens 32",
                                         "bench serve $url --model " + test_model() +
                                             " --num-prompts 6 --max-concurrency 3 --prefix-len 48 "
                                             "--input-len 30 --output-len 6 --ignore-eos --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json found = Json::parse(result.out);
  const Json &outside = found.at("outside"), &ledger = found.at("utilization");
  EXPECT_EQ(outside.at("flops").at("useful").at("lower"), of_both_phases(ledger, "flops"))
      << "lengths are known";
  EXPECT_EQ(outside.at("counts").at("cached_prompt_tokens").at("lower"), found.at("cached_input_tokens"));
  const Json& bytes = outside.at("bytes").at("min");
  EXPECT_EQ(bytes.at("label"), "bounded");
  EXPECT_LE(bytes.at("lower"), of_both_phases(ledger, "bytes"));
  EXPECT_GE(bytes.at("upper"), of_both_phases(ledger, "bytes"));
}

TEST(BenchServe, AsksChatsWithAKeyAndSaysWhatARefusalWas) {
  const std::string load = "bench serve $url --num-prompts 2 --input-len 5 --output-len 2 ";
  const ShellResult chat =
      with_server("--api-key secret",
                  load + "--endpoint /v1/chat/completions --api-key secret --max-concurrency 1,2 --json");
  ASSERT_EQ(chat.status, 0) << chat.err;
  EXPECT_EQ(Json::parse(chat.out).at(1).at("backend"), "openai-chat");
  const ShellResult refused = with_server("--api-key secret", load);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("HTTP 401"), std::string::npos) << refused.err;
}

TEST(BenchLoad, RunsTheSameLoadInProcess) {
  const ScratchDirectory scratch;
  const std::string trace = scratch.write("trace.jsonl",
                                          "{\"timestamp\": 0, \"input_length\": 9, \"output_length\": 2}\n"
                                          "{\"timestamp\": 10, \"input_length\": 5, \"output_length\": 3}\n");
  const Json found = json_of("bench load " + test_model() + " -c 512 --ignore-eos --replay " +
                             shell_word(trace) + " --plot " + shell_word(scratch.path("plot.svg")) +
                             " --json --trace " + shell_word(scratch.path("timeline.json")));
  expect_documented_keys("bench serve", found);
  EXPECT_EQ(found.at("backend"), "redline");
  EXPECT_EQ(found.at("total_input_tokens"), 14);
  EXPECT_EQ(found.at("total_output_tokens"), 5);
  EXPECT_EQ(shell("grep -c '</svg>' " + shell_word(scratch.path("plot.svg"))).out, "1\n");
  EXPECT_EQ(spans_of(scratch.path("timeline.json"))["request"], 2);
}

TEST(BenchLoad, KeepsAPaceOrSaysThatNothingKeepsIt) {
  const std::string load =
      "bench load " + test_model() +
      " -c 512 --num-prompts 3 --input-len 40 --output-len 4 --ignore-eos --json --target-tpot ";
  const ShellResult strict = redline(load + "1us");
  EXPECT_EQ(strict.status, 0) << strict.err;
  EXPECT_NE(strict.err.find("warning: --target-tpot 1.00 µs"), std::string::npos) << strict.err;
  EXPECT_EQ(Json::parse(strict.out).at("completed"), 3);
  const ShellResult loose = redline(load + "10s");
  EXPECT_EQ(loose.err.find("warning"), std::string::npos) << loose.err;
  EXPECT_EQ(Json::parse(loose.out).at("completed"), 3);
}

TEST(BenchLoad, RefusesWhatIsNoLoad) {
  EXPECT_EQ(redline("bench load " + test_model() + " -c 512 --input-len x").status, 2);
  EXPECT_EQ(redline("bench load " + test_model() + " -c 512 --request-rate 0").status, 2);
  EXPECT_EQ(redline("bench load " + test_model() + " -c 512 --ramp linear:1").status, 2);
  EXPECT_EQ(redline("bench load " + test_model() + " -c 512 --goodput itl:5").status, 2);
  EXPECT_EQ(redline("bench load " + test_model() + " -c 512 --replay no-such-trace").status, 1);
  EXPECT_EQ(redline("bench serve https://somewhere").status, 1);
  EXPECT_EQ(redline("bench serve http://127.0.0.1:1").status, 1);
  EXPECT_EQ(redline("bench serve").status, 2);
}

TEST(Bench, WantsOneModelAndKeepsItsReservedNames) {
  EXPECT_EQ(redline("bench").status, 2);
  EXPECT_EQ(redline("bench load").status, 2);
  EXPECT_EQ(redline("bench " + test_model() + " -p 0 -n 0").status, 2);
  EXPECT_NE(redline("bench --shape no-such-shape").status, 0);
}

// Prints a recorded bench whose rates go with the number of its call, times FACTOR.
std::string fake_bench(const ScratchDirectory& scratch, const std::string& name, double factor) {
  const std::string calls = shell_word(scratch.path("calls of " + name));
  return "sh " +
         shell_word(scratch.write(
             name,
             "echo x >> " + calls + "; echo " + name + " >> " + shell_word(scratch.path("order")) +
                 "; n=$(wc -l < " + calls + "); awk -v n=$n 'BEGIN { r = (100 + n % 3) * " +
                 std::to_string(factor) +
                 "; printf \"[{\\\"test\\\": \\\"tg8\\\", \\\"batch\\\": 1, \\\"avg_ts\\\": %f}]\", r }'\n"));
}

TEST(Compare, FindsTheFasterBuildAndSaysWhereThereIsNone) {
  const ScratchDirectory scratch;
  const std::string a = shell_word(fake_bench(scratch, "a.sh", 1)),
                    b = shell_word(fake_bench(scratch, "b.sh", 1.25)),
                    same = shell_word(fake_bench(scratch, "same.sh", 1));
  const Json found = json_of("compare --rounds 6 --bench model --json " + a + " " + b);
  expect_documented_keys("compare", found);
  EXPECT_NEAR(found.at("rows")[0].at("ratio"), 1.25, 1e-3);
  EXPECT_EQ(found.at("rows")[0].at("verdict"), "B is faster");
  EXPECT_EQ(shell("tr '\n' ' ' < " + shell_word(scratch.path("order"))).out,
            "a.sh b.sh b.sh a.sh a.sh b.sh b.sh a.sh a.sh b.sh b.sh a.sh ");
  const Json none = json_of("compare --rounds 6 --bench model --json " + a + " " + same);
  EXPECT_EQ(none.at("rows")[0].at("verdict"), "no difference");
  EXPECT_EQ(redline("compare --rounds 6 --bench model " + a + " false").status, 1);
  EXPECT_EQ(redline("compare --rounds 5 --bench model " + a + " " + b).status, 2);
}

TEST(Compare, RunsItselfWithOptions) {
  const Json found = json_of("compare --rounds 6 --json --bench " + shell_word(test_model() + " -p 0 -n 1") +
                             " -- '--batch 1' '--batch 1 --kv-dtype f32'");
  EXPECT_EQ(found.at("rows").size(), 1u);
  EXPECT_EQ(found.at("b"), "--batch 1 --kv-dtype f32");
}

TEST(Baseline, TellsByItsExitStatus) {
  const ScratchDirectory scratch;
  Json rows = json_of("bench " + test_model() + " -p 8 -n 2 -r 6 --json");
  const auto written = [&](const std::string& name, double factor, std::int64_t batch) {
    for (Json& row : rows) {
      row["batch"] = batch;
      row["avg_ts"] = 100 * factor;
      row["samples_ts"] = Json::array();
      for (int i = 0; i < 6; ++i) row["samples_ts"].push_back((100 + i) * factor);
      row["utilization"]["mfu"] = row["utilization"]["mbu"] = 0.5 * factor;
    }
    return shell_word(scratch.write(name, rows.dump()));
  };
  const std::string base = shell_word(scratch.path("base.json"));
  EXPECT_EQ(redline("baseline record " + base + " --run " + written("before.json", 1, 1)).status, 0);
  EXPECT_EQ(redline("baseline check " + base + " --run " + written("same.json", 1, 1)).status, 0);
  const ShellResult slower =
      redline("baseline check " + base + " --json --run " + written("slower.json", 0.8, 1));
  EXPECT_EQ(slower.status, 3) << slower.err;
  expect_documented_keys("baseline check", Json::parse(slower.out));
  EXPECT_EQ(redline("baseline check " + base + " --run " + written("other.json", 0.5, 8)).status, 4);
  EXPECT_EQ(redline("baseline check " + shell_word(scratch.path("before.json")) + " --run " + base).status,
            1);
  EXPECT_EQ(redline("baseline").status, 2);
  EXPECT_EQ(redline("baseline record " + base).status, 2);
}

TEST(Plan, SaysWhatAKnownDeviceWouldDo) {
  const std::string load = " --input-len 1024 --output-len 256 --price 2 --json";
  const Json plan = json_of("plan --shape llama-3.1-8b --on h200 --rate 20" + load);
  expect_documented_keys("plan", plan);
  EXPECT_EQ(plan.at("devices"), 1);
  EXPECT_EQ(plan.at("tokens_per_s"), 20 * 256);
  EXPECT_NE(plan.at("efficiency").at("source").get<std::string>().find("assumed"), std::string::npos);
  EXPECT_EQ(plan.at("efficiency").at("decode"), 0.75);
  EXPECT_NEAR(plan.at("usd_per_million_output_tokens_all_borne"), 2 / 3600. / 5120 * 1e6, 1e-9);
  const Json many = json_of("plan --shape llama-3.1-8b --on h200 --rate 200" + load);
  EXPECT_EQ(many.at("saturated"), true);
  EXPECT_GT(many.at("devices"), 5);
  const Json given = json_of(
      "plan --shape llama-3.1-8b --on h200 --batch 32 --depth 1000 --compute-share 0.5 --bandwidth-share 1" +
      load);
  const std::int64_t weights = given.at("memory").at("weights");
  const double embedding = 128256. * 4096 * 2, kv = 32 * 1001 * 131072.;
  EXPECT_NEAR(given.at("tpot_s"), (static_cast<double>(weights) - embedding + kv) / 4.8e12, 1e-6)
      << "weights but the embedding, and the cache, at the bandwidth";
  EXPECT_EQ(given.at("memory_bytes"), weights + 32 * 1280 * 131072LL);
  const Json strict = json_of("plan --shape llama-3.1-8b --on h200 --rate 20 --target-tpot 1us" + load);
  EXPECT_EQ(strict.at("targets").at("met"), false);
  EXPECT_TRUE(strict.at("most").is_null());
}

TEST(Plan, RefusesWhatDoesNotFitWithBothNumbers) {
  const ShellResult model = redline("plan --shape llama-3.1-70b --on h100");
  EXPECT_EQ(model.status, 1);
  EXPECT_NE(model.err.find("141 GB"), std::string::npos) << model.err;
  EXPECT_NE(model.err.find("80.0 GB"), std::string::npos) << model.err;
  const ShellResult batch = redline("plan --shape llama-3.1-8b --on h100 --batch 2000");
  EXPECT_EQ(batch.status, 1);
  EXPECT_NE(batch.err.find("2000 sequences of 640 tokens need 184 GB"), std::string::npos) << batch.err;
  EXPECT_NE(batch.err.find("80.0 GB, enough for 762"), std::string::npos) << batch.err;
  EXPECT_EQ(redline("plan --shape llama-3.1-8b --on h101").status, 2);
  EXPECT_EQ(redline("plan --shape llama-3.1-8b --on h100 --rate 2 --batch 3").status, 2);
  EXPECT_EQ(redline("plan --shape llama-3.1-8b --on h100 --target-tpot 50").status, 2) << "a unit is needed";
  EXPECT_EQ(redline("plan --on h100").status, 2);
}

TEST(Plan, MeasuresThisMachine) {
  const Json plan =
      json_of("plan " + test_model() + " --input-len 20 --output-len 5 --max-num-seqs 2 --json");
  expect_documented_keys("plan", plan);
  EXPECT_EQ(plan.at("efficiency").at("source"), "measured on this machine");
  for (const char* key : {"ttft_s", "tpot_s", "tokens_per_s"}) EXPECT_GT(plan.at(key), 0.0) << key;
}

TEST(Eval, PerplexityFollowsFromTheLogitsItWrites) {
  const ScratchDirectory scratch;
  const std::string ids = scratch.write("ids", "[504, 6330, 314, 2811, 30]"),
                    npy = scratch.path("logits.npy");
  const Json json = json_of("eval " + test_model() + " --tokens " + shell_word(ids) + " --logits " +
                            shell_word(npy) + " --json");
  EXPECT_EQ(json.at("tokens"), 5);
  EXPECT_EQ(json.at("predicted"), 4);
  const std::string file = shell("cat " + shell_word(npy)).out;
  const std::size_t vocab = 49152, data = file.size() - 5 * vocab * sizeof(float);
  EXPECT_EQ(data % 64, 0u);
  EXPECT_NE(file.find("'shape': (5, 49152)"), std::string::npos);
  const int next[] = {6330, 314, 2811, 30};
  double nll = 0;
  for (std::size_t row = 0; row < 4; ++row) {
    std::vector<float> logits(vocab);
    std::memcpy(logits.data(), file.data() + data + row * vocab * sizeof(float), vocab * sizeof(float));
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    nll += std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(next[row])]);
  }
  EXPECT_NEAR(json.at("perplexity").get<double>(), std::exp(nll / 4), 1e-6 * std::exp(nll / 4));
}

TEST(Eval, AModelIsNoDistanceFromItself) {
  const ScratchDirectory scratch;
  const std::string ids = shell_word(scratch.write("ids", "[504, 6330, 314]")),
                    npy = shell_word(scratch.path("base.npy"));
  const std::string command = "eval " + test_model() + " --tokens " + ids + " --json";
  json_of(command + " --logits " + npy);
  const Json same = json_of(command + " --base " + npy);
  expect_documented_keys("eval", same);
  EXPECT_EQ(same.at("kl").at("max"), 0.0);
  EXPECT_EQ(same.at("top1_agreement"), 1.0);
  EXPECT_GT(json_of(command + " --kv-dtype f32 --dtype q4_0 --base " + npy).at("kl").at("mean"), 0.0);
}

TEST(Eval, ABaseOfAnotherTextIsRefusedWithBothShapes) {
  const ScratchDirectory scratch;
  const std::string ids = shell_word(scratch.write("ids", "[504]")),
                    more = shell_word(scratch.write("more", "[504, 30]"));
  const std::string npy = shell_word(scratch.path("base.npy"));
  json_of("eval " + test_model() + " --json --tokens " + ids + " --logits " + npy);
  const ShellResult result = redline("eval " + test_model() + " --tokens " + more + " --base " + npy);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("[2, 49152]"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("[1, 49152]"), std::string::npos) << result.err;
}

TEST(Eval, WindowsCutALongerText) {
  const ScratchDirectory scratch;
  const std::string ids = shell_word(scratch.write("ids", "[504, 6330, 314, 2811, 30]"));
  EXPECT_EQ(json_of("eval " + test_model() + " --json --ctx 2 --tokens " + ids).at("predicted"), 2);
}

TEST(Inspect, CountsParametersOnceAndTheTokenAfterTheDepth) {
  const Json json = json_of("inspect " + test_model() + " --depth 100 --on h100 --json");
  expect_documented_keys("inspect", json);
  EXPECT_EQ(json.at("parameters").at("total"), 134515008);  // SmolLM2-135M, its embedding tied
  EXPECT_EQ(json.at("kv_bytes_per_token"), 2 * 30 * 3 * 64 * 2);
  // 2 FLOPs a weight but the norms', and 4 L Hq d (depth + 1) of attention.
  EXPECT_EQ(json.at("per_token").at("flops"), 2 * (134515008 - 61 * 576) + 4ll * 30 * 576 * 101);
  for (const Json& verdict : json.at("verdicts")) EXPECT_EQ(verdict.at("device"), "h100");
}

TEST(Inspect, AnUnknownDeviceIsWrongUsageThatListsTheKnown) {
  const ShellResult result = redline("inspect " + test_model() + " --on abacus");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("h100"), std::string::npos);
}

TEST(Probe, MeasuresRatesThatAreNotNothing) {
  const ScratchDirectory scratch;
  const ShellResult result = shell("REDLINE_PROBE_CACHE=" + shell_word(scratch.path("probe.json")) + " " +
                                   shell_word(REDLINE_BINARY_DIR "/redline") + " probe --threads 1 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.out);
  expect_documented_keys("probe", json);
  EXPECT_GT(json.at("peaks")[0].at("compute").at("fp32"), 1e8);
  EXPECT_GT(json.at("peaks")[0].at("bandwidth"), 1e8);
}

TEST(Cost, ChargesARunAndSaysWhatBetterMfuSaves) {
  const ScratchDirectory scratch;
  const ShellResult run = redline("run " + test_model() + " --raw -p 'The sky is' -n 3 --json");
  const std::string from = " --from " + shell_word(scratch.write("run.json", run.out));
  const Json found =
      json_of("cost --price 0.1" + from +
              " --input-rate 5000 --output-rate 1000 --flops-per-token 27e7 --peak-tflops 0.486 "
              "--mfu 0.1 --devices 1 --mfu-to 0.3 --model " +
              test_model() + " --mfu-prefill 0.4 --mfu-decode 0.05 --json");
  expect_documented_keys("cost", found);
  const Json& cost = found.at("run").at("cost");
  EXPECT_NEAR(
      cost.at("input").get<double>() + cost.at("output").get<double>() + cost.at("idle").get<double>(),
      cost.at("total"), 1e-12);
  EXPECT_DOUBLE_EQ(found.at("run").at("wall_s"), Json::parse(run.out).at("utilization").at("wall_s"));
  EXPECT_EQ(found.at("run").at("output_tokens"), 3);
  const Json fleet = json_of("cost --price 3 --devices 1000 --mfu 0.2 --mfu-to 0.3 --json");
  EXPECT_NEAR(fleet.at("saving").at("devices_saved"), 333, 0.5);
  EXPECT_TRUE(fleet.at("run").is_null());
  const Json named = json_of("cost --price-per-hour 3 --devices 1000 --mfu-from 0.2 --mfu-to 0.3 --json");
  EXPECT_NEAR(named.at("devices_saved"), 1000.0 / 3, 1e-9);
  EXPECT_NEAR(named.at("usd_per_hour"), 1000, 1e-9);
  EXPECT_NEAR(named.at("usd_per_year"), 8.76e6, 1e-6);
  EXPECT_TRUE(named.at("usd_per_million_input_tokens").is_null());
  const ShellResult table = redline("cost --price 3 --devices 1000 --mfu 0.2 --mfu-to 0.3");
  EXPECT_NE(table.out.find("8,760,000"), std::string::npos) << table.out;
  EXPECT_EQ(redline("cost --price 3").status, 2) << "of what?";
  EXPECT_EQ(redline("cost --mfu-to 0.3").status, 2) << "at what price?";
  EXPECT_EQ(redline("cost --price 3 --from " + shell_word(scratch.write("bad.json", "{}"))).status, 1);
}

TEST(Cost, OfAModelOnPaperFollowsItsFlops) {
  const auto flops = [](std::int64_t depth) {
    return json_of("inspect " + test_model() + " --on h100 --json --depth " + std::to_string(depth))
        .at("per_token")
        .at("flops")
        .get<double>();
  };
  const std::string asked =
      "cost --price-per-hour 7.2 --on h100 --mfu-prefill 0.5 --mfu-decode 0.1 --json --model " + test_model();
  const double peak = 989.4e12, per_s = 7.2 / 3600;
  const Json one = json_of(asked + " --prompt 1 --gen 1");
  EXPECT_NEAR(one.at("usd_per_million_input_tokens").get<double>() / (per_s * flops(0) / (0.5 * peak) * 1e6),
              1, 1e-12);
  EXPECT_NEAR(one.at("usd_per_million_output_tokens").get<double>() / (per_s * flops(1) / (0.1 * peak) * 1e6),
              1, 1e-12);
  const Json call = json_of(asked + " --prompt 9 --gen 4");
  const double decoded = (flops(9) + flops(10) + flops(11)) / 3;
  EXPECT_NEAR(call.at("usd_per_million_output_tokens").get<double>() / (per_s * decoded / (0.1 * peak) * 1e6),
              1, 1e-12);
  EXPECT_LT(call.at("usd_per_million_input_tokens"), one.at("usd_per_million_input_tokens"))
      << "one row of logits for nine tokens";
  EXPECT_EQ(redline(asked.substr(0, asked.find(" --mfu-decode")) + " --model " + test_model()).status, 2);
}

// The terms of what --explain adds, which sum to the wall.
void expect_sum(const Json& waterfall, const Json& seconds) {
  std::int64_t sum = 0;
  for (const char* term : {"idle", "gap", "exposed_communication", "waste", "memory_bound", "clock_loss",
                           "kernel_inefficiency", "ideal"})
    sum += waterfall.at(term).get<std::int64_t>();
  EXPECT_EQ(sum, waterfall.at("wall"));
  EXPECT_NEAR(waterfall.at("wall").get<double>() * 1e-9, seconds, 2e-9);
}

TEST(Run, ExplainsItsUtilisationInWholeNanoseconds) {
  const Json run = json_of("run " + test_model() + " --raw -p 'The sky is' -n 5 --explain --json");
  const Json& all = run.at("utilization");
  expect_sum(all.at("waterfall"), all.at("wall_s"));
  for (const Json& phase : all.at("phases")) expect_sum(phase.at("waterfall"), phase.at("busy_s"));
  ASSERT_EQ(all.at("why").size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& why = run.at("explanation").at("why")[i];
    EXPECT_EQ(all.at("why")[i].at("finding"), why.at("cause"));
    EXPECT_EQ(all.at("why")[i].at("value"), why.at("share"));
    EXPECT_EQ(all.at("why")[i].at("counterfactuals").size(), why.at("would_give").size());
  }
  std::map<std::string, Json> changes;
  for (const Json& each : all.at("why")[1].at("counterfactuals"))
    for (const auto& [field, value] : each.at("change").items()) changes[field] = value;
  EXPECT_EQ(changes.at("batch"), 8);
  EXPECT_EQ(changes.at("gap"), 0);
  EXPECT_FALSE(json_of("run " + test_model() + " --raw -p a -n 2 --json").at("utilization").contains("why"));
}

TEST(Template, RendersWithItsVariablesAndNothingMore) {
  const ScratchDirectory scratch;
  const std::string messages =
      shell_word(scratch.write("messages", R"([{"role": "user", "content": "Hi"}])"));
  const std::string source = shell_word(scratch.write(
      "template",
      "{{ messages[0].content }} {{ tools is none }} {{ add_generation_prompt }} {{ eos_token }} {{ x }}"));
  const std::string vars = shell_word(scratch.write("vars", R"({"x": 1, "eos_token": "E"})"));
  const std::string command =
      "template " + test_model() + " --messages " + messages + " --template " + source;
  EXPECT_EQ(redline(command).out, "Hi True True <|im_end|> ");
  EXPECT_EQ(redline(command + " --vars " + vars + " --no-generation-prompt").out, "Hi True False E 1");
}

TEST(Template, AFaultyTemplateOrConversationIsAnErrorThatNamesTheFile) {
  const ScratchDirectory scratch;
  const std::string good = shell_word(scratch.write("good", "[]")), bad = scratch.write("bad", "{% if %}");
  const ShellResult template_error =
      redline("template " + test_model() + " --messages " + good + " --template " + shell_word(bad));
  EXPECT_EQ(template_error.status, 1);
  EXPECT_EQ(template_error.err.rfind("redline: " + bad + ": line 1: ", 0), 0u) << template_error.err;
  const ShellResult json_error = redline("template " + test_model() + " --messages " + shell_word(bad));
  EXPECT_EQ(json_error.status, 1);
  EXPECT_EQ(json_error.err.rfind("redline: " + bad + ": ", 0), 0u) << json_error.err;
  EXPECT_EQ(redline("template " + test_model()).status, 2);
}

TEST(Convert, WritesAModelThatAnswersAlikeAndNeverOverAnotherFile) {
  const ScratchDirectory scratch;
  const std::string out = scratch.write("out.gguf", "kept"), word = shell_word(out);
  const ShellResult refused = redline("convert " + test_model() + " " + word);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("exists; --force replaces it"), std::string::npos) << refused.err;
  const ShellResult converted = redline("convert " + test_model() + " " + word + " --force");
  EXPECT_EQ(converted.status, 0) << converted.err;
  EXPECT_EQ(converted.out, "");
  const std::string prompt = " --raw -p 'The sea' -n 4 --json";
  EXPECT_EQ(json_of("run " + word + prompt).at("token_ids"),
            json_of("run " + test_model() + prompt).at("token_ids"));
  EXPECT_EQ(redline("convert " + word + " " + word + " --force").status, 2) << "the model itself";
}

TEST(Convert, MakesRandomWeightsOfAShape) {
  const ScratchDirectory scratch;
  const std::string out = shell_word(scratch.write("directory", "") + ".gguf");
  EXPECT_EQ(redline("convert " + out).status, 2) << "no file to write";
  EXPECT_EQ(redline("convert --shape no-such " + out).status, 2);
  EXPECT_EQ(redline("convert --shape smollm2-135m --dtype q4_0 --seed 3 " + out).status, 0);
  const Json model = json_of("inspect " + out + " --on h100 --json");
  EXPECT_EQ(model.at("parameters").at("total"), 134515008);
  EXPECT_EQ(json_of("bench " + out + " -p 3 -n 0 -r 1 --json")[0].at("dtype"), "q4_0");
}

}  // namespace
}  // namespace redline::tests
