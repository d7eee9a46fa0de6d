#include "engine/meter/probe.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/meter/hardware.h"

namespace redline {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Probe : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("redline-probe-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    file_ = folder_ / "deep" / "probe.json";
    setenv("REDLINE_PROBE_CACHE", file_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("REDLINE_PROBE_CACHE");
    fs::remove_all(folder_);
  }

  static CeilingOptions quick(int threads) {
    return {.isa = "portable",
            .threads = threads,
            .llc_bytes = 1 << 20,
            .memory_bytes = 32 << 20,
            .samples = 1,
            .sample_s = 1e-4};
  }
  // A file as a probe of one thread, `age_s` ago, would have left it.
  Json entry(std::int64_t age_s, bool disturbed = false) const {
    return {{"isa", "portable"},
            {"threads", 1},
            {"measured_unix_s", std::time(nullptr) - age_s},
            {"disturbed", disturbed},
            {"ops_per_s", {{"fp32", 5e9}, {"int8", 7e9}}},
            {"memory_bytes_per_s", 3e9},
            {"llc_bytes_per_s", 9e9}};
  }
  void write(const Json& entry, const std::string& cpu = this_cpu().key) const {
    fs::create_directories(file_.parent_path());
    std::ofstream(file_) << Json{{"format", 1}, {"cpu", cpu}, {"name", "x"}, {"entries", {entry}}};
  }

  fs::path folder_, file_;
};

TEST_F(Probe, IsMeasuredOnceAndThenKept) {
  EXPECT_FALSE(kept_probe("portable", 1));
  const ProbeResult measured = probe(quick(1));
  EXPECT_GT(measured.ceilings.memory_bytes_per_s, 0);
  const auto kept = kept_probe("portable", 1);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->ceilings.ops_per_s, measured.ceilings.ops_per_s);
  EXPECT_EQ(kept->ceilings.memory_bytes_per_s, measured.ceilings.memory_bytes_per_s);
  EXPECT_EQ(kept->measured_unix_s, measured.measured_unix_s);
  EXPECT_EQ(kept_or_new_probe("portable", 1).measured_unix_s, measured.measured_unix_s);
  EXPECT_EQ(std::distance(fs::directory_iterator(file_.parent_path()), fs::directory_iterator()), 1)
      << "no temporary file stays";
}

TEST_F(Probe, KeepsWhatItDidNotMeasureAgain) {
  write(entry(100));
  probe(quick(2));
  const auto first = kept_probe("portable", 1), second = kept_probe("portable", 2);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->ceilings.memory_bytes_per_s, 3e9);
  EXPECT_EQ(second->ceilings.threads, 2);
}

TEST_F(Probe, KnowsItsAge) {
  write(entry(3600));
  const auto kept = kept_probe("portable", 1);
  ASSERT_TRUE(kept);
  EXPECT_NEAR(kept->age_s(), 3600, 5);
  const DevicePeaks peaks = peaks_of(*kept);
  EXPECT_EQ(peaks.attainable().bandwidth, 3e9);
  EXPECT_EQ(peaks.vendor().bandwidth, 0);
  EXPECT_NEAR(*peaks.bandwidth.age_s, 3600, 5);
  EXPECT_EQ(peaks.compute[static_cast<std::size_t>(ComputeType::kInt8)].attainable, 7e9);
  EXPECT_FALSE(peaks.compute[static_cast<std::size_t>(ComputeType::kBF16)].age_s) << "never measured";
}

TEST_F(Probe, AnotherMachineInstructionSetOrThreadCountIsAnotherProbe) {
  write(entry(1));
  EXPECT_TRUE(kept_probe("portable", 1));
  EXPECT_FALSE(kept_probe("portable", 2));
  EXPECT_FALSE(kept_probe("avx2", 1));
  write(entry(1), "some-other-cpu");
  EXPECT_FALSE(kept_probe("portable", 1));
}

TEST_F(Probe, OfADisturbedMomentIsKeptForMinutesOnly) {
  write(entry(60, true));
  EXPECT_TRUE(kept_probe("portable", 1));
  write(entry(3600, true));
  EXPECT_FALSE(kept_probe("portable", 1));
}

TEST_F(Probe, BrokenFilesCountAsNone) {
  fs::create_directories(file_.parent_path());
  Json wrong_type = entry(1);
  wrong_type["threads"] = "one";
  Json missing = entry(1);
  missing.erase("ops_per_s");
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1,2]"), std::string("null"),
        std::string("{\"format\":2}"), std::string("\xff\xfe\0\1", 4),
        Json{{"format", 1}, {"cpu", this_cpu().key}, {"entries", {wrong_type}}}.dump(),
        Json{{"format", 1}, {"cpu", this_cpu().key}, {"entries", {missing}}}.dump()}) {
    std::ofstream(file_) << text;
    EXPECT_FALSE(kept_probe("portable", 1)) << text;
  }
}

TEST_F(Probe, NeedsNoPlaceToWrite) {
  setenv("REDLINE_PROBE_CACHE", "/proc/no/such/place.json", 1);
  EXPECT_GT(probe(quick(1)).ceilings.memory_bytes_per_s, 0);
  EXPECT_FALSE(kept_probe("portable", 1));
}

TEST_F(Probe, PathFollowsXdgAndTheOverride) {
  EXPECT_EQ(probe_cache_path(), file_.string());
  unsetenv("REDLINE_PROBE_CACHE");
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(probe_cache_path(), "/somewhere/redline/probe-" + this_cpu().key + ".json");
  unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace redline
