// Elements of a WeightArrays matrix as f32, whatever it is stored as. A quantised value is one f32 product
// and at most one sum, as in kernels/convert.h (a compiler may fuse the two, which rounds once).
#pragma once

#include "kernels/check.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kGroup = 32;  // columns that share a scale

DEV_INLINE uint2 load_8_bytes(const void* from) { return *static_cast<const uint2*>(from); }

/// f = columns [col, col + V) of row `row`. V is 8, with col and the matrix's cols multiples of 8, or 1.
template <DType kType, int V>
DEV_INLINE void load_weights(const WeightArrays& weight, std::int64_t row, std::int64_t col, float (&f)[V]) {
  const std::int64_t element = row * weight.cols + col;
  if constexpr (kType == DType::kF32) {
    load_elements<V, Reuse::kOnce>(reinterpret_cast<const float*>(weight.quants) + element, f);
  } else if constexpr (kType == DType::kF16) {
    load_elements<V, Reuse::kOnce>(reinterpret_cast<const f16*>(weight.quants) + element, f);
  } else if constexpr (kType == DType::kBF16) {
    load_elements<V, Reuse::kOnce>(reinterpret_cast<const bf16*>(weight.quants) + element, f);
  } else if constexpr (kType == DType::kQ8_0) {
    static_assert(V == 8);
    const float d = to_f32(reinterpret_cast<const f16*>(weight.scales)[element / kGroup]);
    const uint2 bytes = load_8_bytes(weight.quants + element);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      f[i] = d * static_cast<float>(static_cast<std::int8_t>((i < 4 ? bytes.x : bytes.y) >> (8 * (i % 4))));
  } else {
    static_assert(V == 8);
    float d, m = 0;
    if constexpr (kType == DType::kQ4_0) {
      d = to_f32(reinterpret_cast<const f16*>(weight.scales)[element / kGroup]);
    } else {
      const float2 pair =
          unpack_f16x2(reinterpret_cast<const std::uint32_t*>(weight.scales)[element / kGroup]);
      d = pair.x;
      m = pair.y;
    }
    constexpr int kZero = kType == DType::kQ4_0 ? 8 : 0;
    const int in_group = static_cast<int>(col % kGroup), shift = in_group < kGroup / 2 ? 0 : 4;
    const uint2 bytes = load_8_bytes(weight.quants + element / kGroup * 16 + in_group % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned nibble = (i < 4 ? bytes.x : bytes.y) >> (8 * (i % 4) + shift) & 15;
      f[i] = d * static_cast<float>(static_cast<int>(nibble) - kZero) + m;
    }
  }
}

template <DType kType>
using DTypeTag = std::integral_constant<DType, kType>;

/// Calls body(DTypeTag<dtype>).
template <class Body>
void with_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body(DTypeTag<DType::kF32>());
    case DType::kF16:
      return body(DTypeTag<DType::kF16>());
    case DType::kBF16:
      return body(DTypeTag<DType::kBF16>());
    case DType::kQ8_0:
      return body(DTypeTag<DType::kQ8_0>());
    case DType::kQ4_0:
      return body(DTypeTag<DType::kQ4_0>());
    case DType::kQ4_1:
      return body(DTypeTag<DType::kQ4_1>());
    default:
      REDLINE_CHECK(false, "a type that matrices are stored as on the device");
  }
}

}  // namespace redline::cuda
