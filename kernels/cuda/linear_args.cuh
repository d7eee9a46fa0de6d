// What the matrix-vector kernels are given.
#pragma once

#include "kernels/cuda/quantized.cuh"

namespace redline::cuda {

template <DType kType>
inline constexpr bool kIsQuantized = is_quantized(kType);

/// What is written: the product, or silu(gate) * up of a matrix that holds N rows of gate, then N of up.
enum class Epilogue { kNone, kSiluMul };

/// out[M, N] = x[M, K] weight[N, K]^T. A: bf16 or float; Out: A or float, rounded once.
template <class A, class Out>
struct LinearArgs {
  WeightArrays weight;  // [N, K], with kSiluMul [2 N, K]
  const A* x = nullptr;
  std::int64_t x_stride = 0;  // elements from one row to the next
  Out* out = nullptr;
  std::int64_t out_stride = 0;
  int num_tokens = 0;  // M
};

/// What makes x before it is multiplied, as add_rms_norm (rms_norm.cuh) does: residual += delta, then x =
/// rms_norm(residual) * weight. All of x's shape, without gaps.
struct NormPrologue {
  bf16* x = nullptr;
  float* residual = nullptr;
  const bf16* delta = nullptr;
  const float* weight = nullptr;  // [K]
  float eps = 0;
};

template <Epilogue kEpilogue, class A, class Out>
inline std::int64_t output_cols(const LinearArgs<A, Out>& args) {
  return kEpilogue == Epilogue::kSiluMul ? args.weight.rows / 2 : args.weight.rows;
}

}  // namespace redline::cuda
