#include "kernels/cuda/algorithm_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace redline::cuda {
namespace {

const std::string kOwner = "A device, driver 13000, cuBLASLt 130100";

AlgorithmBytes algorithm(std::uint64_t seed) {
  AlgorithmBytes bytes{};
  for (std::uint64_t& word : bytes) word = seed = seed * 6364136223846793005u + 1442695040888963407u;
  return bytes;
}

class AlgorithmCacheTest : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string text() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
  }
  /// What a cache of `owner` says on stderr when it finds `text`; it must take nothing from it, and leave a
  /// good file once something is added.
  std::string complaint(const std::string& text, const std::string& owner = kOwner) {
    write(text);
    testing::internal::CaptureStderr();
    AlgorithmCache cache(path_, owner);
    EXPECT_EQ(cache.size(), 0) << text;
    cache.add("anew", algorithm(9));
    EXPECT_EQ(AlgorithmCache(path_, owner).find("anew"), algorithm(9));
    return testing::internal::GetCapturedStderr();
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("redline_algorithms_" + std::to_string(::getpid()));
  std::filesystem::path path_ = folder_ / "deep" / "gemm.txt";
};

TEST_F(AlgorithmCacheTest, FindsAfterARestartWhatWasAdded) {
  AlgorithmCache cache(path_, kOwner);
  EXPECT_EQ(cache.find("512 4096 4096 bf16"), std::nullopt);
  cache.add("512 4096 4096 bf16", algorithm(1));
  cache.add("1 2 3 f32", algorithm(2));
  cache.add("512 4096 4096 bf16", algorithm(3));
  const AlgorithmCache again(path_, kOwner);
  EXPECT_EQ(again.size(), 2);
  EXPECT_EQ(again.find("512 4096 4096 bf16"), algorithm(3));
  EXPECT_EQ(again.find("1 2 3 f32"), algorithm(2));
  EXPECT_EQ(again.find("1 2 3"), std::nullopt);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_.parent_path()), {}), 1)
      << "nothing is left beside it";
}

TEST_F(AlgorithmCacheTest, IgnoresAndRewritesDamagedFilesWithALineOnStderr) {
  AlgorithmCache(path_, kOwner).add("512 4096 4096 bf16", algorithm(1));
  const std::string good = text();
  for (std::size_t size = 0; size < good.size(); size += 7)
    EXPECT_NE(complaint(good.substr(0, size)).find(path_.string() + " is ignored"), std::string::npos)
        << size;
  for (std::size_t at = 0; at < good.size(); at += 5) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    const std::string said = complaint(bad);
    EXPECT_NE(said.find("is ignored"), std::string::npos) << at;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
  }
  EXPECT_NE(complaint(good + "more\n").find("damaged"), std::string::npos);
  EXPECT_NE(complaint("{\"json\": 1}\n").find("holds no cuBLASLt algorithms"), std::string::npos);
}

TEST_F(AlgorithmCacheTest, IgnoresWhatBelongsToAnotherDeviceDriverOrLibrary) {
  AlgorithmCache(path_, kOwner).add("512 4096 4096 bf16", algorithm(1));
  EXPECT_NE(complaint(text(), "A device, driver 13000, cuBLASLt 130200").find("another device"),
            std::string::npos);
}

TEST_F(AlgorithmCacheTest, SaysOnceThatItCannotWriteAndGoesOn) {
  testing::internal::CaptureStderr();
  AlgorithmCache cache("/proc/no/such/folder/gemm.txt", kOwner);
  cache.add("a", algorithm(1));
  cache.add("b", algorithm(2));
  EXPECT_EQ(cache.find("a"), algorithm(1));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("cannot be written"), std::string::npos);
}

TEST_F(AlgorithmCacheTest, LiesWhereTheEnvironmentSays) {
  ::setenv("XDG_CACHE_HOME", "/a/cache", 1);
  EXPECT_EQ(algorithm_cache_path("NVIDIA H100 80GB"), "/a/cache/redline/gemm-nvidia-h100-80gb.txt");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", "/home/any", 1);
  EXPECT_EQ(algorithm_cache_path("X"), "/home/any/.cache/redline/gemm-x.txt");
  ::setenv("REDLINE_GEMM_CACHE", "/named", 1);
  EXPECT_EQ(algorithm_cache_path("X"), "/named");
  ::setenv("REDLINE_GEMM_CACHE", "", 1);
  EXPECT_TRUE(algorithm_cache_path("X").empty());
  ::unsetenv("REDLINE_GEMM_CACHE");
}

}  // namespace
}  // namespace redline::cuda
