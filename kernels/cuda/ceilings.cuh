// What the device attains, for the meter: reads of memory far larger than the caches, and FMAs that depend on
// nothing in memory. (The tensor cores' rate is a product's: gemm.h.)
//
// A block reads a contiguous run in steps of 4 KiB, each thread four independent 16-byte loads a step; the
// sum keeps the loads alive. Limit: the memory's bandwidth. FMAs: eight independent chains a thread, 64
// warps' worth on each multiprocessor. Limit: two FLOPs per lane and clock.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace redline::cuda {

inline constexpr int kCeilingThreads = 256;

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* data, std::int64_t vectors, std::uint32_t* sink) {
  constexpr int kLoads = 4;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * kLoads;
  std::uint32_t sum = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads * kLoads + threadIdx.x; i < vectors;
       i += stride) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const std::int64_t at = i + j * kThreads;
      loaded[j] = at < vectors ? dev::ld_nc_v4(data + at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) sum += loaded[j].x ^ loaded[j].y ^ loaded[j].z ^ loaded[j].w;
  }
  if (sum == 0x9e3779b9u) *sink = sum;  // hardly ever: but the compiler cannot know
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) fma_kernel(int steps, float x, float* sink) {
  constexpr int kChains = 8;
  float chains[kChains];
#pragma unroll
  for (int j = 0; j < kChains; ++j) chains[j] = static_cast<float>(threadIdx.x + j);
  for (int i = 0; i < steps; ++i) {
#pragma unroll
    for (int j = 0; j < kChains; ++j) chains[j] = fmaf(chains[j], x, 0.5f);
  }
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kChains; ++j) sum += chains[j];
  if (sum == -1.0f) *sink = sum;
}

/// Reads `bytes` (a multiple of 16) once.
inline void launch_read(const void* data, std::int64_t bytes, std::uint32_t* sink, int num_sms,
                        dev::stream_t stream) {
  dev::launch(read_kernel<kCeilingThreads>, dim3(static_cast<unsigned>(num_sms * 8)), dim3(kCeilingThreads),
              0, stream, static_cast<const uint4*>(data), bytes / 16, sink);
}

/// 2 * 8 * steps FLOPs a thread; returns all of them.
inline std::int64_t launch_fma(int steps, float* sink, int num_sms, dev::stream_t stream) {
  const int blocks = num_sms * 8;
  dev::launch(fma_kernel<kCeilingThreads>, dim3(static_cast<unsigned>(blocks)), dim3(kCeilingThreads), 0,
              stream, steps, 0.999f, sink);
  return std::int64_t{16} * steps * blocks * kCeilingThreads;
}

}  // namespace redline::cuda
