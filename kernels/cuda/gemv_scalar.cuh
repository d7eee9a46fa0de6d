// out[M, N] = x[M, K] W[N, K]^T in f32, for whatever gemv_mma.cuh does not take: f32 activations, f32 and f16
// weights, any K and alignment.
//
// A warp owns one output column (with kSiluMul a gate row and its up row) and up to kTokens tokens; a lane
// takes every 32nd vector of V columns, kUnroll of them in flight. Grid y walks tiles of tokens, each of
// which reads W again.
// Limit: bytes of W, for one token; then FMAs. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/linear_args.cuh"
#include "kernels/cuda/silu_mul.cuh"

namespace redline::cuda {

template <DType kType, Epilogue kEpilogue, int V, int kTokens, class A, class Out>
__global__ void __launch_bounds__(256)
    gemv_scalar_kernel(const LinearArgs<A, Out> args, const std::int64_t n_cols) {
  constexpr int kMatrices = kEpilogue == Epilogue::kSiluMul ? 2 : 1, kUnroll = kTokens == 1 ? 4 : 2;
  const std::int64_t output = std::int64_t{blockIdx.x} * (256 / kWarpSize) + warp_index();
  if (output >= n_cols) return;
  const int first_token = static_cast<int>(blockIdx.y) * kTokens;
  const std::int64_t k = args.weight.cols;
  float sum[kMatrices][kTokens] = {};
#pragma unroll
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    const std::int64_t row = output + matrix * n_cols;
    for (std::int64_t first = lane_index() * V; first < k; first += kUnroll * kWarpSize * V) {
      float w[kUnroll][V] = {};
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const std::int64_t col = first + u * kWarpSize * V;
        if (col < k) load_weights<kType>(args.weight, row, col, w[u]);
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const std::int64_t col = first + u * kWarpSize * V;
        if (col >= k) continue;
#pragma unroll
        for (int token = 0; token < kTokens; ++token) {
          if (first_token + token >= args.num_tokens) continue;
          float x[V];
          load_elements(args.x + (first_token + token) * args.x_stride + col, x);
#pragma unroll
          for (int e = 0; e < V; ++e) sum[matrix][token] += w[u][e] * x[e];
        }
      }
    }
  }
#pragma unroll
  for (int token = 0; token < kTokens; ++token) {
    if (first_token + token >= args.num_tokens) continue;
    float value = warp_sum(sum[0][token]);
    if constexpr (kMatrices == 2) value = silu(value) * warp_sum(sum[1][token]);
    if (lane_index() == 0) args.out[(first_token + token) * args.out_stride + output] = from_f32<Out>(value);
  }
}

template <DType kType, Epilogue kEpilogue, class A, class Out>
inline void launch_gemv_scalar(const LinearArgs<A, Out>& args, dev::stream_t stream) {
  constexpr int kThreads = 256, kTokens = 4;
  const std::int64_t n = output_cols<kEpilogue>(args);
  const auto launch = [&](auto* kernel, int tokens) {
    dim3 grid = grid_for<kThreads>(n * kWarpSize);
    grid.y = static_cast<unsigned>((args.num_tokens + tokens - 1) / tokens);
    dev::launch(kernel, grid, dim3(kThreads), 0, stream, args, n);
  };
  const bool vectors = args.weight.cols % 8 == 0 && vectors_fit(args.x, args.x_stride);
  if constexpr (!is_quantized(kType))
    if (!vectors) {
      if (args.num_tokens == 1) return launch(gemv_scalar_kernel<kType, kEpilogue, 1, 1, A, Out>, 1);
      return launch(gemv_scalar_kernel<kType, kEpilogue, 1, kTokens, A, Out>, kTokens);
    }
  if (args.num_tokens == 1) return launch(gemv_scalar_kernel<kType, kEpilogue, 8, 1, A, Out>, 1);
  launch(gemv_scalar_kernel<kType, kEpilogue, 8, kTokens, A, Out>, kTokens);
}

}  // namespace redline::cuda
