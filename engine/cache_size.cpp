#include "engine/cache_size.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace redline {
namespace {

std::string mib(std::int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

CacheSize plan_cache(const ModelConfig& config, const EngineOptions& options, std::int64_t available_bytes) {
  CacheSize size;
  if (options.kv_dtype == DType::kQ8_0 && config.head_dim % 32 != 0)
    throw std::runtime_error("a q8_0 cache takes heads of a multiple of 32 dimensions, the model's have " +
                             std::to_string(config.head_dim) + ": --kv-dtype bf16 would do");
  size.cache.num_layers = static_cast<std::int32_t>(config.num_layers);
  size.cache.num_kv_heads = static_cast<std::int32_t>(config.num_kv_heads);
  size.cache.head_dim = static_cast<std::int32_t>(config.head_dim);
  size.cache.dtype = options.kv_dtype;
  size.cache.block_size = options.block_size;
  const std::int64_t block_bytes = size.cache.bytes_per_block();
  const auto blocks_for = [&](std::int64_t tokens) {
    return (tokens + options.block_size - 1) / options.block_size + 1;
  };

  size.max_context = options.max_context > 0 ? options.max_context : config.max_positions;
  std::int64_t num_blocks = blocks_for(size.max_context);
  if (options.kv_memory_bytes > 0) {
    const std::int64_t held = options.kv_memory_bytes / block_bytes;
    if (options.max_context > 0 && held < num_blocks)
      throw std::runtime_error("a context of " + std::to_string(options.max_context) +
                               " tokens needs a cache of " + mib(num_blocks * block_bytes) +
                               ", the limit given is " + mib(options.kv_memory_bytes));
    if (held < 2)
      throw std::runtime_error("a cache of two blocks takes " + std::to_string(2 * block_bytes) +
                               " bytes, the limit given is " + std::to_string(options.kv_memory_bytes));
    num_blocks = held;
  } else if (num_blocks * block_bytes <= available_bytes / 4) {
    const std::int64_t enough = blocks_for(size.max_context * options.max_sequences);
    num_blocks = std::clamp(available_bytes / 4 / block_bytes, num_blocks, enough);
  } else if (options.max_context == 0) {
    num_blocks = std::min(num_blocks, std::max<std::int64_t>(available_bytes / 2 / block_bytes, 2));
  }
  num_blocks =
      std::min<std::int64_t>(num_blocks, std::numeric_limits<std::int32_t>::max() / options.block_size);
  if (num_blocks * block_bytes > available_bytes)
    throw std::runtime_error("the KV cache needs " + mib(num_blocks * block_bytes) + " for " +
                             std::to_string(num_blocks * options.block_size) + " tokens, " +
                             mib(available_bytes) + " of memory are available: a shorter --ctx would help");
  size.cache.num_blocks = static_cast<std::int32_t>(num_blocks);
  size.max_context = std::min(size.max_context, (num_blocks - 1) * options.block_size);
  return size;
}

KvCache make_cache(KvCacheConfig config, Ops& ops) {
  config.tiles = ops.kv_tiles();
  if (config.dtype == DType::kQ8_0 && config.tiles != KvTiles::kTransposed)
    throw std::runtime_error("a q8_0 cache works on CPUs only: --kv-dtype bf16 would do");
  return KvCache(config, [&](std::size_t bytes) { return ops.allocate(bytes); });
}

}  // namespace redline
