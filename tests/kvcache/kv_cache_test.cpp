#include "kvcache/kv_cache.h"

#include <gtest/gtest.h>

#include "kvcache/block_table.h"

namespace redline {
namespace {

TEST(KvCache, BytesComputedBeforehandAreThoseOfTheLayers) {
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kQ8_0}) {
    const KvCacheConfig config{.num_layers = 3,
                               .num_kv_heads = 2,
                               .head_dim = 64,
                               .dtype = dtype,
                               .block_size = 16,
                               .num_blocks = 5};
    EXPECT_EQ(config.bytes_per_token(), 2 * 3 * 2 *
                                            (dtype == DType::kF32    ? 256
                                             : dtype == DType::kQ8_0 ? 68
                                                                     : 128));
    const KvCache cache(config);
    ASSERT_EQ(cache.layers().size(), 3u);
    std::int64_t bytes = 0;
    for (const KvLayerView& layer : cache.layers()) bytes += layer.block_bytes() * layer.num_blocks;
    EXPECT_EQ(bytes, config.total_bytes());
  }
}

TEST(KvCache, LayersAndBlocksDoNotOverlap) {
  const KvCacheConfig config{.num_layers = 2,
                             .num_kv_heads = 3,
                             .head_dim = 8,
                             .dtype = DType::kF32,
                             .block_size = 4,
                             .num_blocks = 3};
  const KvCache cache(config);
  float next = 1;
  const std::int64_t elements = config.total_bytes() / config.num_layers / 4;
  for (const KvLayerView& layer : cache.layers())
    for (std::int64_t i = 0; i < elements; ++i) reinterpret_cast<float*>(layer.data)[i] = next++;
  next = 1;
  for (const KvLayerView& layer : cache.layers())
    for (std::int64_t i = 0; i < elements; ++i) ASSERT_EQ(reinterpret_cast<float*>(layer.data)[i], next++);
}

TEST(BlockTable, SlotsFollowTheTable) {
  const BlockTable table = {7, 2, 9};
  EXPECT_EQ(slot_of(table, 0, 4), 28);
  EXPECT_EQ(slot_of(table, 3, 4), 31);
  EXPECT_EQ(slot_of(table, 4, 4), 8);
  EXPECT_EQ(slot_of(table, 11, 4), 39);
  EXPECT_EQ(num_blocks_for(0, 4), 0);
  EXPECT_EQ(num_blocks_for(4, 4), 1);
  EXPECT_EQ(num_blocks_for(5, 4), 2);
}

}  // namespace
}  // namespace redline
