// What some architectures do to the residual stream besides adding to it: residual += delta / rms(delta) *
// weight with out = residual (rms as in rms_norm.cuh), and a scale on embeddings.
//
// A block of kResidualThreads owns a row of the former, reading delta twice, the second time from L1; a
// thread an element of the latter. Limit: bytes: residual read and written, delta read, out written. Share
// reached: not yet measured.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kResidualThreads = 256;

template <class A>
struct RmsNormAddArgs {
  A* out = nullptr;  // [rows, cols], as the other two
  float* residual = nullptr;
  const A* delta = nullptr;
  const float* weight = nullptr;  // [cols]
  int rows = 0, cols = 0;
  float eps = 0;
};

template <class A>
__global__ void __launch_bounds__(kResidualThreads) rms_norm_add_kernel(const RmsNormAddArgs<A> args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * args.cols;
  float square = 0;
  for (int i = thread_index(); i < args.cols; i += kResidualThreads) {
    const float x = to_f32(args.delta[row + i]);
    square += x * x;
  }
  const float mean = block_sum<kResidualThreads>(square) / static_cast<float>(args.cols);
  const float scale = 1.0f / sqrtf(mean + args.eps);
  for (int i = thread_index(); i < args.cols; i += kResidualThreads) {
    const float sum = args.residual[row + i] + to_f32(args.delta[row + i]) * scale * args.weight[i];
    args.residual[row + i] = sum;
    args.out[row + i] = from_f32<A>(sum);
  }
}

/// residual += rms_norm(delta) * weight in f32, then out = residual, rounded to A (bf16 or float).
template <class A>
inline void rms_norm_add(const RmsNormAddArgs<A>& args, dev::stream_t stream) {
  if (args.rows == 0) return;
  dev::launch(rms_norm_add_kernel<A>, dim3(static_cast<unsigned>(args.rows)), dim3(kResidualThreads), 0,
              stream, args);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) scale_kernel(float* x, std::int64_t count, float factor) {
  const std::int64_t i = grid_thread<kThreads>();
  if (i < count) x[i] *= factor;
}

/// x[0 .. count) *= factor.
inline void scale(float* x, std::int64_t count, float factor, dev::stream_t stream) {
  if (count == 0) return;
  dev::launch(scale_kernel<kResidualThreads>, grid_for<kResidualThreads>(count), dim3(kResidualThreads), 0,
              stream, x, count, factor);
}

}  // namespace redline::cuda
