#include "engine/memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <optional>
#include <stdexcept>

namespace redline {
namespace {

constexpr std::int64_t kKiB = 1024, kMiB = kKiB * kKiB;

class AvailableMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(::testing::TempDir()) /
            (std::string("memory_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::filesystem::path root_;
};

TEST_F(AvailableMemory, IsUnboundedWhereNothingIsKnown) {
  EXPECT_EQ(available_memory_bytes(root_), std::numeric_limits<std::int64_t>::max());
}

TEST_F(AvailableMemory, IsWhatTheKernelEstimates) {
  write("proc/meminfo", "MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable:     500 kB\n");
  EXPECT_EQ(available_memory_bytes(root_), 500 * kKiB);
}

TEST_F(AvailableMemory, RespectsEveryVersionTwoGroupAroundTheProcess) {
  write("proc/meminfo", "MemAvailable: 8000000 kB\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
  write("sys/fs/cgroup/outer/memory.max", std::to_string(100 * kMiB));
  write("sys/fs/cgroup/outer/memory.current", std::to_string(70 * kMiB));
  write("sys/fs/cgroup/outer/memory.stat", "anon 5\nactive_file 1048576\ninactive_file 19922944\n");
  EXPECT_EQ(available_memory_bytes(root_), 50 * kMiB);
}

TEST_F(AvailableMemory, RespectsVersionOneGroups) {
  write("proc/meminfo", "MemAvailable: 8000000 kB\n");
  write("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(64 * kMiB));
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(80 * kMiB));
  EXPECT_EQ(available_memory_bytes(root_), 0);
}

TEST_F(AvailableMemory, FallsBackToTheMountWhereTheGroupsPathIsNotVisible) {
  write("proc/meminfo", "MemAvailable: 8000000 kB\n");
  write("proc/self/cgroup", "0::/docker/abc\n");
  write("sys/fs/cgroup/memory.max", std::to_string(10 * kMiB));
  write("sys/fs/cgroup/memory.current", std::to_string(4 * kMiB));
  EXPECT_EQ(available_memory_bytes(root_), 6 * kMiB);
}

TEST_F(AvailableMemory, LimitsDataToWhatTheTightestGroupLeaves) {
  write("proc/meminfo", "MemAvailable: 8000000 kB\n");
  write("proc/self/status", "Name:\tx\nVmData:\t  40960 kB\nRssAnon:\t   20480 kB\n");
  EXPECT_EQ(data_limit_bytes(root_), std::nullopt) << "no group limits it";
  write("proc/self/cgroup", "0::/job\n");
  write("sys/fs/cgroup/job/memory.max", std::to_string(500 * kMiB));
  write("sys/fs/cgroup/job/memory.current", std::to_string(30 * kMiB));
  write("sys/fs/cgroup/job/memory.stat", "inactive_file " + std::to_string(10 * kMiB) + "\n");
  EXPECT_EQ(data_limit_bytes(root_), (20 + 480 - 30) * kMiB);
  write("sys/fs/cgroup/job/memory.max", std::to_string(50 * kMiB));
  EXPECT_EQ(data_limit_bytes(root_), (40 + 64) * kMiB) << "some room is left, whatever has been mapped";
  write("sys/fs/cgroup/job/memory.max", "max\n");
  EXPECT_EQ(data_limit_bytes(root_), std::nullopt);
}

TEST_F(AvailableMemory, OfThisMachineIsPositive) { EXPECT_GT(available_memory_bytes(), 0); }

TEST(RequireMemory, RefusesWithBothNumbers) {
  EXPECT_NO_THROW(require_memory("m", 5, 5));
  try {
    require_memory("big.gguf with its cache", 3 * 1024 * kMiB, 1536 * kMiB);
    FAIL() << "not refused";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "big.gguf with its cache needs 3.00 GiB of memory; 1.50 GiB are available");
  }
}

}  // namespace
}  // namespace redline
