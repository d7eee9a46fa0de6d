#include "engine/meter/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLinear = static_cast<std::size_t>(OpKind::kLinear);
constexpr std::size_t kAttention = static_cast<std::size_t>(OpKind::kPagedAttention);
constexpr std::size_t kF32 = static_cast<std::size_t>(ComputeType::kF32);
constexpr const char* kWaterfall = "waterfall, ns";

std::string read(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

DevicePeaks known_peaks() {
  DevicePeaks peaks;
  for (auto& peak : peaks.compute) peak.attainable = 1e10;
  peaks.bandwidth.attainable = 1e10;
  return peaks;
}

StepCounts some_counts() {
  StepCounts step;
  step.phase[0].tokens = 7;
  step.phase[1].tokens = 2;
  step.phase[1].flops[0] = step.phase[1].flops_by_type[kF32] = 4'000'000;  // 400 us
  step.phase[1].weights = 2'000'000;
  step.busy_ns[1] = 900'000;
  step.ideal_ns_attainable[1] = 500'000;
  step.sequences.resize(3);
  step.kind_ns[kLinear] = 600'000;
  step.kind_calls[kLinear] = 4;
  step.kind_ns[kAttention] = 300'000;
  step.kind_calls[kAttention] = 2;
  return step;
}

// A file that is gone with it.
class Trace : public testing::Test {
 protected:
  ~Trace() override { std::filesystem::remove(path_); }
  void add(TraceWriter& writer, std::int64_t start_ns, std::int64_t gap_ns = 0) {
    const StepCounts counts = some_counts();
    StepRecord record;
    record.counts = &counts;
    record.start_ns = start_ns;
    record.wall_ns = 1'000'000;
    record.gap_ns = gap_ns;
    writer.add_step(record);
  }
  const std::string path_ = testing::TempDir() + "trace-" + std::to_string(::getpid()) + ".json";
};

std::int64_t ns_of(const Json& microseconds) { return std::llround(microseconds.get<double>() * 1000); }

TEST_F(Trace, HasASpanForEachStepAndOperationKind) {
  TraceWriter writer(path_, "redline \"quoted\"", known_peaks(), 1'000'000'000);
  add(writer, 1'000'000'000);
  add(writer, 1'001'500'123, 500'123);
  writer.close();
  std::map<std::string, int> spans;
  std::int64_t step_end = 0, operation_end = 0;
  for (const Json& event : Json::parse(read(path_))) {
    if (event["ph"] != "X") continue;
    ++spans[event["name"]];
    std::int64_t& end = event["tid"] == 1 ? step_end : operation_end;
    EXPECT_GE(ns_of(event["ts"]), end) << "what is on a row does not overlap";
    end = ns_of(event["ts"]) + ns_of(event["dur"]);
    EXPECT_LE(operation_end, step_end) << "operations lie within their step";
  }
  EXPECT_EQ(spans["prefill 7 + decode 2"], 2);
  EXPECT_EQ(spans["linear"], 2);
  EXPECT_EQ(spans["paged_attention"], 2);
  EXPECT_EQ(spans["gap"], 1);
  EXPECT_EQ(step_end, 2'500'123) << "since the trace began";
}

TEST_F(Trace, TheWaterfallOfAStepIsThatOfItsTime) {
  TraceWriter writer(path_, "redline", known_peaks(), 0);
  add(writer, 5'000'000, 2'000'000);
  writer.close();
  std::vector<Json> waterfalls;
  for (const Json& event : Json::parse(read(path_)))
    if (event["name"] == kWaterfall) waterfalls.push_back(event);
  ASSERT_EQ(waterfalls.size(), 2u);
  EXPECT_EQ(waterfalls[0]["ts"], 0);
  EXPECT_EQ(waterfalls[0]["args"]["idle"], 3'000'000);
  EXPECT_EQ(waterfalls[1]["ts"], 3000);
  EXPECT_EQ(waterfalls[1]["args"], (Json{{"idle", 0},
                                         {"gap", 2'100'000},
                                         {"exposed_communication", 0},
                                         {"waste", 0},
                                         {"memory_bound_penalty", 100'000},
                                         {"clock_loss", 0},
                                         {"kernel_inefficiency", 400'000},
                                         {"ideal_compute", 400'000}}));
}

TEST_F(Trace, WithoutPeaksTimeIsIdleGapAndBusy) {
  TraceWriter writer(path_, "redline", {}, 0);
  add(writer, 2'000'000, 2'000'000);
  writer.close();
  int found = 0;
  for (const Json& event : Json::parse(read(path_)))
    if (event["name"] == kWaterfall) {
      EXPECT_EQ(event["args"], (Json{{"idle", 0}, {"gap", 2'100'000}, {"busy", 900'000}}));
      ++found;
    }
  EXPECT_EQ(found, 1);
}

TEST_F(Trace, OfAKilledRunLacksTheBracketAlone) {
  TraceWriter writer(path_, "redline", known_peaks(), 0);
  std::size_t last_size = 0;
  for (int i = 0; i < 500; ++i) {
    add(writer, i * 2'000'000, 1'000'000);
    if (i % 50 > 0) continue;
    const std::string text = read(path_);  // as a process killed now would leave it
    ASSERT_FALSE(Json::accept(text));
    ASSERT_TRUE(text.empty() || Json::accept(text + "]")) << "after step " << i;
    EXPECT_GE(text.size(), last_size);
    last_size = text.size();
  }
  EXPECT_GT(last_size, 4 * TraceFile::kMaxHeldBytes) << "it does not wait in memory";
  writer.close();
  EXPECT_TRUE(Json::accept(read(path_)));
}

TEST_F(Trace, SaysWhichFileItCannotWrite) {
  try {
    TraceWriter writer("/no/such/folder/trace.json", "redline", {}, 0);
    FAIL() << "opened";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("/no/such/folder/trace.json"), std::string::npos);
  }
  TraceWriter full("/dev/full", "redline", {}, 0);
  for (int i = 0; i < 1000; ++i) add(full, 2'000'000 * i);
  EXPECT_THROW(full.close(), std::runtime_error);
}

// Spans of one row, in the order of their beginnings; every B has its E, and what overlaps nests.
struct Span {
  std::string name;
  std::int64_t begin_ns = 0, end_ns = 0;
  Json args;
};

std::map<std::int64_t, std::vector<Span>> lanes_of(const Json& events) {
  std::map<std::int64_t, std::vector<Span>> lanes;
  for (const Json& event : events) {
    if (event["pid"] != 2 || event["tid"] == 0) continue;
    std::vector<Span>& lane = lanes[event["tid"].get<std::int64_t>()];
    if (event["ph"] == "B") {
      EXPECT_TRUE(lane.empty()) << "a request begins once, before all that it does";
      lane.push_back({event["name"], ns_of(event["ts"]), -1, {}});
    } else if (event["ph"] == "E") {
      lane.at(0).end_ns = ns_of(event["ts"]);
      lane.at(0).args = event["args"];
    } else if (event["ph"] == "X") {
      EXPECT_GE(ns_of(event["ts"]), lane.size() == 1 ? lane[0].begin_ns : lane.back().end_ns);
      lane.push_back(
          {event["name"], ns_of(event["ts"]), ns_of(event["ts"]) + ns_of(event["dur"]), event["args"]});
    }
  }
  return lanes;
}

// Eight requests on a cache that holds some of them; one is aborted, one has three answers, one never runs.
struct BusyEngine {
  explicit BusyEngine(const std::string& path) {
    auto model = tiny_model();
    const DevicePeaks peaks = known_peaks();
    model->ops->ledger().set_peaks(peaks.attainable(), peaks.vendor());
    begin_ns = end_ns = TraceWriter::now_ns();
    TraceWriter writer(path, "redline", peaks, begin_ns);
    EngineOptions options;
    options.max_batched_tokens = 64;
    options.max_sequences = 6;
    options.kv_memory_bytes = 20 * 16 * 2 * 32 * 2 * 2;
    Engine engine(
        model, options,
        [&](const StepRecord& step) {
          writer.add_step(step);
          for (std::size_t p = 0; p < kNumPhases; ++p) {
            counted[p] += step.counts->phase[p];
            counted[p] -= step.wasted_since[p];
            counted[p] += step.wasted_since[p].as_wasted();
          }
          end_ns = step.start_ns + step.wall_ns;
          most_blocks = std::max(most_blocks, step.stats->kv_usage * 19);
        },
        [&](const RequestUsage& usage) {
          writer.end_request(usage);
          usages[usage.id] = usage;
        });
    std::vector<std::unique_ptr<Stream>> streams;
    for (std::uint32_t i = 0; i < 8; ++i) {
      Request request;
      request.prompt = random_tokens(60, i, 211);
      request.sampling.max_tokens = 30;
      request.n = i == 0 ? 3 : 1;
      streams.push_back(engine.submit(std::move(request)));
    }
    streams.back()->abort();  // most likely before its first step: there are six seats
    EXPECT_TRUE(streams[3]->next());
    streams[3]->abort();
    for (const auto& stream : streams)
      while (stream->next()) {
      }
    num_preemptions = engine.stats().num_preemptions;
  }

  std::array<Counts, kNumPhases> counted{};
  std::map<std::int64_t, RequestUsage> usages;
  std::int64_t begin_ns = 0, end_ns = 0, num_preemptions = 0;
  double most_blocks = 0;
};

TEST_F(Trace, LanesNestAndHoldTheTokensOfTheLedger) {
  const BusyEngine engine(path_);
  ASSERT_GT(engine.num_preemptions, 0);
  const auto lanes = lanes_of(Json::parse(read(path_)));
  ASSERT_EQ(lanes.size(), 8u);
  std::map<std::string, int> waits;
  std::int64_t tokens = 0;
  for (const auto& [id, lane] : lanes) {
    const RequestUsage& usage = engine.usages.at(id);
    EXPECT_EQ(lane[0].end_ns - lane[0].begin_ns, usage.finish_ns - usage.arrival_ns);
    EXPECT_LE(lane.back().end_ns, lane[0].end_ns) << "what it did lies within it";
    EXPECT_EQ(lane[1].name, "queued");
    EXPECT_EQ(lane[0].args["generated_tokens"], usage.generated_tokens);
    EXPECT_EQ(lane[0].args["finish_reason"], name(usage.finish_reason));
    std::int64_t prefill = 0, decode = 0;
    for (const Span& span : lane) {
      if (span.name == "preempted" || span.name == "waiting") ++waits[span.name];
      if (!span.args.contains("step")) continue;
      prefill += span.args.value("prefill_tokens", 0);
      decode += span.args.value("decode_tokens", 0);
    }
    EXPECT_EQ(prefill, usage.prefill.tokens + usage.prefill.wasted_tokens) << "request " << id;
    EXPECT_EQ(decode, usage.decode.tokens + usage.decode.wasted_tokens) << "request " << id;
    tokens += prefill + decode;
  }
  EXPECT_GT(waits["preempted"], 0);
  EXPECT_EQ(tokens, engine.counted[0].tokens + engine.counted[0].wasted_tokens + engine.counted[1].tokens +
                        engine.counted[1].wasted_tokens);
}

TEST_F(Trace, GraphsSumToTheWallAndToTheLedger) {
  const BusyEngine engine(path_);
  std::int64_t waterfall_ns = 0, useful = 0, in_vain = 0;
  double most_blocks = 0;
  for (const Json& event : Json::parse(read(path_))) {
    const Json& args = event["args"];
    if (event.value("name", "") == kWaterfall)
      for (const Json& term : args) waterfall_ns += term.get<std::int64_t>();
    if (event.value("name", "") == "tokens") useful += args["useful"].get<std::int64_t>();
    if (event.value("name", "") == "KV blocks")
      most_blocks = std::max(most_blocks, args["used"].get<double>());
    in_vain += args.value("earlier_tokens_in_vain", std::int64_t{0});
  }
  EXPECT_EQ(waterfall_ns, engine.end_ns - engine.begin_ns);
  EXPECT_EQ(useful - in_vain, engine.counted[0].tokens + engine.counted[1].tokens);
  EXPECT_NEAR(most_blocks, engine.most_blocks, 1e-6);
  EXPECT_GT(most_blocks, 10);
}

}  // namespace
}  // namespace redline
