// Where K and V live.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/tensor.h"

namespace redline {

/// The shape of a cache; its bytes are known before any memory is asked for. The trash block is among the
/// blocks.
struct KvCacheConfig {
  std::int32_t num_layers = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  DType dtype = DType::kBF16;  // or kF32, kQ8_0 (kTransposed, head_dim a multiple of 32)
  std::int32_t block_size = 16;
  std::int32_t num_blocks = 0;
  KvTiles tiles = KvTiles::kTransposed;

  /// Of all layers.
  std::int64_t bytes_per_token() const {
    return 2 * row_bytes(dtype, std::int64_t{num_kv_heads} * head_dim) * num_layers;
  }
  std::int64_t bytes_per_block() const { return bytes_per_token() * block_size; }
  std::int64_t total_bytes() const { return bytes_per_block() * num_blocks; }
};

/// One buffer a layer. On the host, pages are touched when they are first written, so that an idle cache
/// costs address space alone.
class KvCache {
 public:
  using Allocate = std::function<Buffer(std::size_t bytes)>;

  /// Requires a bf16 or f32 cache of even block size and head dim. Throws what `allocate` throws: by default,
  /// of the host's memory, std::bad_alloc.
  explicit KvCache(const KvCacheConfig& config, const Allocate& allocate = host_memory);

  const KvCacheConfig& config() const { return config_; }
  const KvLayerView& layer(std::int32_t index) const { return layers_[static_cast<std::size_t>(index)]; }
  const std::vector<KvLayerView>& layers() const { return layers_; }

 private:
  static Buffer host_memory(std::size_t bytes) { return Buffer(bytes); }

  KvCacheConfig config_;
  std::vector<Buffer> buffers_;
  std::vector<KvLayerView> layers_;
};

}  // namespace redline
