// The host's half of the device header under nvcc: launches, memory, tensor maps, every error an exception.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

namespace redline::cuda::dev {

using stream_t = cudaStream_t;

/// Throws, naming the call, unless it succeeded.
inline void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
}

template <class... Parameters, class... Arguments>
inline void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                   stream_t stream, Arguments&&... arguments) {
  const auto* const function = reinterpret_cast<const void*>(kernel);
  if (dynamic_shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(dynamic_shared_bytes)),
          "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  }
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  const auto launch_with = [&](auto&... value) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
    check(cudaLaunchKernel(function, grid, block, pointers, dynamic_shared_bytes, stream),
          "cudaLaunchKernel");
  };
  std::apply(launch_with, values);
}
inline void sync() { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

inline void* malloc_device(std::size_t bytes, const char* = "") {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes == 0 ? 1 : bytes), "cudaMalloc");
  return data;
}
inline void free_device(void* data) noexcept { cudaFree(data); }
inline void copy_to_device(void* device, const void* host, std::size_t bytes) {
  check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}
inline void copy_to_host(void* host, const void* device, std::size_t bytes) {
  check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}
/// Fills with a byte that no one is meant to read.
inline void poison(void* device, int byte, std::size_t bytes) {
  check(cudaMemset(device, byte, bytes), "cudaMemset");
}

/// A row-major matrix [outer, inner] seen in boxes of [box_outer, box_inner] elements. A box's row is at most
/// one span of the swizzle and a multiple of 16 bytes, as base and row stride are.
inline TensorMap2D make_tensor_map_2d(const void* base, std::uint64_t inner, std::uint64_t outer,
                                      std::uint64_t row_stride_bytes, std::uint32_t box_inner,
                                      std::uint32_t box_outer, std::uint32_t element_bytes, Swizzle swizzle) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion(cuTensorMapEncodeTiled)");
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  const CUtensorMapDataType type = element_bytes == 1   ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                        : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  CUtensorMapSwizzle mode = CU_TENSOR_MAP_SWIZZLE_NONE;
  if (swizzle == Swizzle::B128) mode = CU_TENSOR_MAP_SWIZZLE_128B;
  if (swizzle == Swizzle::B64) mode = CU_TENSOR_MAP_SWIZZLE_64B;
  if (swizzle == Swizzle::B32) mode = CU_TENSOR_MAP_SWIZZLE_32B;
  const cuuint64_t extents[2] = {inner, outer}, strides[1] = {row_stride_bytes};
  const cuuint32_t box[2] = {box_inner, box_outer}, element_strides[2] = {1, 1};
  TensorMap2D result;
  const CUresult error = encode(&result.map, type, 2, const_cast<void*>(base), extents, strides, box,
                                element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, mode,
                                CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (error != CUDA_SUCCESS) {
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(error)));
  }
  return result;
}

}  // namespace redline::cuda::dev

#include "kernels/cuda/device_buffer.h"
