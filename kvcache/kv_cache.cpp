#include "kvcache/kv_cache.h"

#include "kernels/check.h"

namespace redline {

KvCache::KvCache(const KvCacheConfig& config, const Allocate& allocate) : config_(config) {
  REDLINE_CHECK(config.dtype == DType::kBF16 || config.dtype == DType::kF32 || config.dtype == DType::kQ8_0,
                "a bf16, f32 or q8_0 cache");
  REDLINE_CHECK(
      config.dtype != DType::kQ8_0 || (config.tiles == KvTiles::kTransposed && config.head_dim % 32 == 0),
      "q8_0 in whole blocks, transposed");
  REDLINE_CHECK(config.block_size % 2 == 0 && config.head_dim % 2 == 0, "K and V lie in pairs");
  for (std::int32_t i = 0; i < config.num_layers; ++i) {
    buffers_.push_back(allocate(static_cast<std::size_t>(config.total_bytes() / config.num_layers)));
    layers_.push_back({.data = buffers_.back().data(),
                       .dtype = config.dtype,
                       .num_blocks = config.num_blocks,
                       .block_size = config.block_size,
                       .num_kv_heads = config.num_kv_heads,
                       .head_dim = config.head_dim,
                       .tiles = config.tiles});
    REDLINE_CHECK(layers_.back().block_bytes() * config.num_layers == config.bytes_per_block(),
                  "configuration and layer agree on a block's bytes");
  }
}

}  // namespace redline
