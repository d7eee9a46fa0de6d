#include "engine/meter/trace.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace redline {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLinear = static_cast<std::size_t>(OpKind::kLinear);
constexpr std::size_t kAttention = static_cast<std::size_t>(OpKind::kPagedAttention);

std::string read(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

StepCounts some_step() {
  StepCounts step;
  step.phase[0].tokens = 7;
  step.phase[1].tokens = 2;
  step.phase[1].flops[0] = 4'000'000;
  step.phase[1].weights = 2'000'000;
  step.sequences.resize(3);
  step.kind_ns[kLinear] = 600'000;
  step.kind_calls[kLinear] = 4;
  step.kind_ns[kAttention] = 300'000;
  step.kind_calls[kAttention] = 2;
  return step;
}

TEST(Trace, HasAnEventForEachStepAndOperationKind) {
  const std::string path = testing::TempDir() + "trace.json";
  TraceWriter writer(path, "redline \"quoted\"");
  writer.add_step(some_step(), 1'000'000'000, 1'000'000);
  writer.add_step(some_step(), 1'001'500'000, 1'000'000, 500'000);
  writer.close();
  const Json events = Json::parse(read(path));
  std::map<std::string, int> spans;
  double last_end = 0;
  for (const Json& event : events) {
    if (event["ph"] != "X") continue;
    ++spans[event["name"]];
    if (event["tid"] != 1) continue;
    EXPECT_GE(event["ts"].get<double>(), last_end) << "steps and gaps do not overlap";
    last_end = event["ts"].get<double>() + event["dur"].get<double>();
  }
  EXPECT_EQ(spans["prefill 7 + decode 2"], 2);
  EXPECT_EQ(spans["linear"], 2);
  EXPECT_EQ(spans["paged_attention"], 2);
  EXPECT_EQ(spans["gap"], 1);
  EXPECT_EQ(last_end, 2500) << "microseconds since the first step";
  std::filesystem::remove(path);
}

TEST(Trace, OperationsLieWithinTheirStep) {
  const std::string path = testing::TempDir() + "trace-operations.json";
  TraceWriter writer(path, "redline");
  writer.add_step(some_step(), 0, 1'000'000);
  writer.close();
  double next = 0;
  for (const Json& event : Json::parse(read(path)))
    if (event["ph"] == "X" && event["tid"] == 2) {
      EXPECT_EQ(event["ts"], next);
      next += event["dur"].get<double>();
    }
  EXPECT_EQ(next, 900);
  std::filesystem::remove(path);
}

TEST(Trace, OfAKilledRunLacksTheBracketAlone) {
  const std::string path = testing::TempDir() + "trace-killed.json";
  {
    TraceWriter writer(path, "redline");
    writer.add_step(some_step(), 0, 1'000'000);
  }
  std::string text = read(path);
  ASSERT_EQ(text.substr(text.size() - 3), "\n]\n");
  text.resize(text.size() - 3);
  EXPECT_FALSE(Json::accept(text));
  EXPECT_TRUE(Json::accept(text + "]"));
  std::filesystem::remove(path);
}

TEST(Trace, SaysWhichFileItCannotWrite) {
  try {
    TraceWriter writer("/no/such/folder/trace.json", "redline");
    FAIL() << "opened";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("/no/such/folder/trace.json"), std::string::npos);
  }
  TraceWriter full("/dev/full", "redline");
  for (int i = 0; i < 1000; ++i) full.add_step(some_step(), i, 1);
  EXPECT_THROW(full.close(), std::runtime_error);
}

}  // namespace
}  // namespace redline
