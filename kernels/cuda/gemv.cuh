// Products with few tokens, which read the whole matrix once: the kernel for each type and shape.
#pragma once

#include "kernels/cuda/gemv_mma.cuh"
#include "kernels/cuda/gemv_scalar.cuh"

namespace redline::cuda {

/// out[M, N] = x[M, K] weight[N, K]^T; with kSiluMul out[M, N] = silu(x gate^T) * (x up^T), the matrix
/// holding N rows of gate, then N of up. Any M; meant for M up to kGemvMaxTokens. A: bf16 or float; Out: A or
/// float. Quantised weights: K a multiple of 32, x aligned to 16 bytes with a stride that is a multiple of 8.
/// Sums in f32; out is written once, rounded to nearest.
template <Epilogue kEpilogue = Epilogue::kNone, class A, class Out>
inline void gemv(const LinearArgs<A, Out>& args, dev::stream_t stream) {
  if (args.num_tokens == 0 || args.weight.rows == 0) return;
  with_dtype(args.weight.dtype, [&](auto tag) {
    constexpr DType kType = decltype(tag)::value;
    if constexpr (std::is_same_v<A, bf16> && kType != DType::kF32)
      if (fits_gemv_mma(args)) return launch_gemv_mma<kType, kEpilogue>(args, stream);
    launch_gemv_scalar<kType, kEpilogue>(args, stream);
  });
}

}  // namespace redline::cuda
