// out = gate / (1 + exp(-gate)) * up, element by element.
//
// Each thread owns 8 consecutive columns of one row (1 where strides or bases do not divide by 8).
// Limit: bytes: 3 sizeof(A) an element. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kSiluMulThreads = 256;

/// In f32; exp(-x) by ex2 (about 2 ulp), infinite below x = -88, where the result is -0.
DEV_INLINE float silu(float x) { return x / (1.0f + __expf(-x)); }

template <class A>
struct SiluMulArgs {
  A* out = nullptr;
  const A* gate = nullptr;
  const A* up = nullptr;
  std::int64_t out_stride = 0, gate_stride = 0, up_stride = 0;  // elements from one row to the next
  std::int64_t rows = 0, cols = 0;
};

template <class A, int V>
__global__ void __launch_bounds__(kSiluMulThreads) silu_mul_kernel(const SiluMulArgs<A> args) {
  const std::int64_t vectors = args.cols / V, index = grid_thread<kSiluMulThreads>();
  if (index >= args.rows * vectors) return;
  const std::int64_t row = index / vectors, col = index % vectors * V;
  float gate[V], up[V];
  load_elements(args.gate + row * args.gate_stride + col, gate);
  load_elements(args.up + row * args.up_stride + col, up);
#pragma unroll
  for (int i = 0; i < V; ++i) gate[i] = silu(gate[i]) * up[i];
  store_elements(args.out + row * args.out_stride + col, gate);
}

/// out[rows, cols] = silu(gate) * up. gate and up may be halves of one [rows, 2 cols] array, and out may be
/// either.
template <class A>
inline void silu_mul(const SiluMulArgs<A>& args, dev::stream_t stream) {
  if (args.rows == 0 || args.cols == 0) return;
  const bool vectors = args.cols % 8 == 0 && vectors_fit(args.out, args.out_stride) &&
                       vectors_fit(args.gate, args.gate_stride) && vectors_fit(args.up, args.up_stride);
  dev::launch(vectors ? silu_mul_kernel<A, 8> : silu_mul_kernel<A, 1>,
              grid_for<kSiluMulThreads>(args.rows * args.cols / (vectors ? 8 : 1)), dim3(kSiluMulThreads), 0,
              stream, args);
}

}  // namespace redline::cuda
