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

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/runtime.h"

namespace redline::cuda::dev {

/// Throws DeviceError, naming the call, unless it succeeded.
void check(cudaError_t error, const char* call);

/// Launches with the attributes that both forms of launch need.
template <class... Parameters, class... Arguments>
inline void launch_with(bool dependent, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, stream_t stream, Arguments&&... arguments) {
  const auto* const function = reinterpret_cast<const void*>(kernel);
  if (dynamic_shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(dynamic_shared_bytes)),
          "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = dependent ? 1 : 0;
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  const auto launch = [&](auto&... value) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
    check(cudaLaunchKernelExC(&config, function, pointers), "cudaLaunchKernelExC");
  };
  std::apply(launch, values);
}

/// Runs `kernel` after what `stream` was given before.
template <class... Parameters, class... Arguments>
inline void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                   stream_t stream, Arguments&&... arguments) {
  launch_with(false, kernel, grid, block, dynamic_shared_bytes, stream,
              std::forward<Arguments>(arguments)...);
}
/// The same, but the kernel may start before the one before it has ended (programmatic dependent launch): it
/// calls wait_for_prior_kernels before it touches what that one writes. Before sm_90 it is launch.
template <class... Parameters, class... Arguments>
inline void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                             std::size_t dynamic_shared_bytes, stream_t stream, Arguments&&... arguments) {
  launch_with(true, kernel, grid, block, dynamic_shared_bytes, stream, std::forward<Arguments>(arguments)...);
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
