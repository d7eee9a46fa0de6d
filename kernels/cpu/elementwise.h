// The kernels that work on one row at a time, of each instruction set: plain data (see kernel_table.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace redline::cpu {

/// One token's row of rope_and_store_kv: query heads, then key heads, then value heads.
struct RopeTask {
  float* heads = nullptr;
  const float* cos = nullptr;  // of this token's position
  const float* sin = nullptr;
  const float* bias = nullptr;  // these four as QkvTransform says
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  bool norm_joins_heads = false;
  float norm_eps = 0;
  std::byte* k = nullptr;  // the token's first element in KV head 0's K tile, and in its V tile
  std::byte* v = nullptr;
  std::int64_t head_bytes = 0;  // from one KV head's tiles to the next's
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  int block_size = 0;
  DType dtype = DType::kBF16;
  std::byte* k_scales = nullptr;  // of q8_0, likewise
  std::byte* v_scales = nullptr;
};

struct ElementwiseKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight over n elements; out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, std::int64_t n, float eps);
  /// residual += delta, then out = rms_norm(residual).
  void (*add_rms_norm)(float* out, float* residual, const float* delta, const float* weight, std::int64_t n,
                       float eps);
  /// residual += rms_norm(delta), then out = residual; out may be neither.
  void (*rms_norm_add)(float* out, float* residual, const float* delta, const float* weight, std::int64_t n,
                       float eps);
  /// out = silu(gate) * up over n elements.
  void (*silu_mul)(float* out, const float* gate, const float* up, std::int64_t n);
  /// Biases, norms and rotates the query heads in place, and key and value heads on their way to the cache.
  void (*rope_and_store)(const RopeTask& task);
};

extern const ElementwiseKernels kElementwisePortable, kElementwiseAvx2, kElementwiseAvx512;

}  // namespace redline::cpu
