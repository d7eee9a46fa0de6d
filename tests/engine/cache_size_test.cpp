#include "engine/cache_size.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace redline {
namespace {

ModelConfig small_model() {
  ModelConfig config;
  config.num_layers = 2;
  config.num_kv_heads = 1;
  config.head_dim = 64;
  config.max_positions = 1000;
  return config;
}
// 2 * 64 * 2 bytes * 2 layers = 512 bytes a token, 8 KiB a block of 16.
constexpr std::int64_t kBlock = 8192;

TEST(CacheSize, HoldsTheModelsContextAndMoreWhereMemoryIsPlentiful) {
  const CacheSize size = plan_cache(small_model(), {}, 4 * 1000 * kBlock);
  EXPECT_EQ(size.max_context, 1000);
  EXPECT_EQ(size.cache.num_blocks, 1000);
}

TEST(CacheSize, ShrinksTheContextUnasked) {
  const CacheSize size = plan_cache(small_model(), {}, 20 * kBlock);
  EXPECT_EQ(size.cache.num_blocks, 10);
  EXPECT_EQ(size.max_context, 9 * 16) << "one block is set aside";
}

TEST(CacheSize, AWishThatDoesNotFitIsRefusedWithBothNumbers) {
  EngineOptions options;
  options.max_context = 100000;
  try {
    plan_cache(small_model(), options, 20 * kBlock);
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("49 MiB"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("1 MiB"), std::string::npos) << e.what();
  }
  options.kv_memory_bytes = 10 * kBlock;
  EXPECT_THROW(plan_cache(small_model(), options, 1 << 30), std::runtime_error);
}

TEST(CacheSize, AMemoryLimitIsKept) {
  EngineOptions options;
  options.kv_memory_bytes = 10 * kBlock + 5;
  const CacheSize size = plan_cache(small_model(), options, 1 << 30);
  EXPECT_EQ(size.cache.num_blocks, 10);
  EXPECT_EQ(size.max_context, 144);
}

TEST(CacheSize, BytesTakeHalfTheMemoryAndWholeBlocksOfDimensions) {
  EngineOptions options;
  options.kv_dtype = DType::kQ8_0;
  EXPECT_EQ(plan_cache(small_model(), options, 1 << 30).cache.bytes_per_block(), kBlock * 34 / 64);
  ModelConfig narrow = small_model();
  narrow.head_dim = 80;
  try {
    plan_cache(narrow, options, 1 << 30);
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("80"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace redline
