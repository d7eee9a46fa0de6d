// out = x / sqrt(mean(x^2) + eps) * weight over each row (Zhang & Sennrich 2019), and the same after
// residual += delta.
//
// One block owns one row. A thread holds its 8-element vectors of the row in registers between the sum and
// the scaling, so that each byte is read once; rows that do not divide by 8, or exceed 16384, are read twice
// by single elements. The sum of squares is f32: per thread in order, then over lanes, then over warps.
// Limit: bytes: 4 H read and sizeof(A) H written a row; with the sum 8 H + 2 sizeof(A) H. Share reached: not
// yet measured.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

template <class A>
struct RmsNormArgs {
  A* out = nullptr;               // [rows, cols]
  float* x = nullptr;             // [rows, cols]; written only where delta is given
  const A* delta = nullptr;       // [rows, cols] or null: added to x first
  const float* weight = nullptr;  // [cols]
  int rows = 0;
  int cols = 0;
  float eps = 0;
};

template <class A, int kThreads, int kVectors>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(const RmsNormArgs<A> args) {
  dev::allow_next_kernel();
  const std::int64_t row = std::int64_t{blockIdx.x} * args.cols;
  const int num_vectors = args.cols / 8;
  float values[kVectors][8];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int vector = thread_index() + i * kThreads;
    if (vector >= num_vectors) continue;
    load_elements(args.x + row + vector * 8, values[i]);
    if (args.delta != nullptr) {
      float delta[8];
      load_elements(args.delta + row + vector * 8, delta);
#pragma unroll
      for (int e = 0; e < 8; ++e) values[i][e] += delta[e];
      store_elements(args.x + row + vector * 8, values[i]);
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += values[i][e] * values[i][e];
  }
  const float scale = rsqrtf(block_sum<kThreads>(sum) / static_cast<float>(args.cols) + args.eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int vector = thread_index() + i * kThreads;
    if (vector >= num_vectors) continue;
    float weight[8];
    load_elements(args.weight + vector * 8, weight);
#pragma unroll
    for (int e = 0; e < 8; ++e) weight[e] *= values[i][e] * scale;
    store_elements(args.out + row + vector * 8, weight);
  }
}

// Any number of columns, at any alignment.
template <class A, int kThreads>
__global__ void __launch_bounds__(kThreads) rms_norm_by_element_kernel(const RmsNormArgs<A> args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * args.cols;
  float sum = 0;
  for (int i = thread_index(); i < args.cols; i += kThreads) {
    float value = args.x[row + i];
    if (args.delta != nullptr) args.x[row + i] = value += to_f32(args.delta[row + i]);
    sum += value * value;
  }
  const float scale = rsqrtf(block_sum<kThreads>(sum) / static_cast<float>(args.cols) + args.eps);
  for (int i = thread_index(); i < args.cols; i += kThreads)
    args.out[row + i] = from_f32<A>(args.x[row + i] * scale * args.weight[i]);
}

/// Threads of a block that sum up a row of so many columns, a multiple of 8.
DEV_HOST_INLINE constexpr int rms_norm_threads(int cols) {
  return cols <= 1024 ? 128 : cols <= 2048 ? 256 : 512;
}

template <class A>
inline void launch_rms_norm(const RmsNormArgs<A>& args, dev::stream_t stream) {
  if (args.rows == 0 || args.cols == 0) return;
  const auto launch = [&](auto* kernel, int threads) {
    dev::launch(kernel, dim3(static_cast<unsigned>(args.rows)), dim3(static_cast<unsigned>(threads)), 0,
                stream, args);
  };
  const bool vectors = vectors_fit(args.out, args.cols) && vectors_fit(args.x, args.cols) &&
                       vectors_fit(args.delta, args.cols) && vectors_fit(args.weight, args.cols);
  if (!vectors || args.cols > 16384)
    launch(rms_norm_by_element_kernel<A, 256>, 256);
  else if (args.cols <= 1024)
    launch(rms_norm_kernel<A, 128, 1>, 128);
  else if (args.cols <= 2048)
    launch(rms_norm_kernel<A, 256, 1>, 256);
  else if (args.cols <= 4096)
    launch(rms_norm_kernel<A, 512, 1>, 512);
  else if (args.cols <= 8192)
    launch(rms_norm_kernel<A, 512, 2>, 512);
  else
    launch(rms_norm_kernel<A, 512, 4>, 512);
}

/// out[rows, cols] = rms_norm(x) * weight. A: bf16 or float; out may be x where A is float.
template <class A>
inline void rms_norm(A* out, const float* x, const float* weight, int rows, int cols, float eps,
                     dev::stream_t stream) {
  launch_rms_norm<A>({.out = out,
                      .x = const_cast<float*>(x),  // not written: there is no delta
                      .weight = weight,
                      .rows = rows,
                      .cols = cols,
                      .eps = eps},
                     stream);
}

/// residual += delta in f32, then out = rms_norm(residual) * weight. All [rows, cols], without gaps.
template <class A>
inline void add_rms_norm(A* out, float* residual, const A* delta, const float* weight, int rows, int cols,
                         float eps, dev::stream_t stream) {
  launch_rms_norm<A>(
      {.out = out, .x = residual, .delta = delta, .weight = weight, .rows = rows, .cols = cols, .eps = eps},
      stream);
}

}  // namespace redline::cuda
