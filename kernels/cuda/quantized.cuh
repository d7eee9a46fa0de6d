// Elements of a WeightArrays matrix as f32, whatever it is stored as. A quantised value is one f32 product
// and at most one sum, as in kernels/convert.h (a compiler may fuse the two, which rounds once).
#pragma once

#include "kernels/check.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kGroup = 32;        // columns that share a scale; of Q6_K, two
inline constexpr int kSuperGroup = 256;  // columns whose scales a K type scales again

/// Whether `dtype` holds nibbles as Q4_0 does.
constexpr bool has_nibbles(DType dtype) {
  return dtype == DType::kQ4_0 || dtype == DType::kQ4_1 || dtype == DType::kQ4_K || dtype == DType::kQ6_K;
}
/// Whether its values are q times a scale and a minimum besides.
constexpr bool has_minimum(DType dtype) { return dtype == DType::kQ4_1 || dtype == DType::kQ4_K; }

/// Scale and minimum of group j of the four whose bytes are in `low`, and nibbles in the half word `high`,
/// of a Q4_K record.
DEV_INLINE float2 q4_k_scales(std::uint32_t d_and_m, std::uint32_t low, std::uint32_t high, int j) {
  const float2 d = unpack_f16x2(d_and_m);
  const std::uint32_t byte = low >> (8 * j) & 255;
  const std::uint32_t minimum = byte >> 6 | (high >> (4 * j) & 15) << 2;
  return make_float2(d.x * static_cast<float>(byte & 63), -(d.y * static_cast<float>(minimum)));
}

DEV_INLINE uint2 load_8_bytes(const void* from) { return *static_cast<const uint2*>(from); }

/// What the codes of the group at `element` are multiplied by, and what is added, of a type with nibbles.
template <DType kType>
DEV_INLINE float2 load_scales(const WeightArrays& weight, std::int64_t element) {
  if constexpr (kType == DType::kQ4_0) {
    return make_float2(to_f32(reinterpret_cast<const f16*>(weight.scales)[element / kGroup]), 0.0f);
  } else if constexpr (kType == DType::kQ4_1) {
    return unpack_f16x2(reinterpret_cast<const std::uint32_t*>(weight.scales)[element / kGroup]);
  } else if constexpr (kType == DType::kQ4_K) {
    const auto* const record =
        reinterpret_cast<const std::uint32_t*>(weight.scales) + element / kSuperGroup * 4;
    const int group = static_cast<int>(element % kSuperGroup / kGroup);
    return q4_k_scales(record[0], record[1 + group / 4], record[3] >> (group / 4 * 16), group % 4);
  } else {
    static_assert(kType == DType::kQ6_K);
    const float d = to_f32(reinterpret_cast<const f16*>(weight.supers)[element / kSuperGroup]);
    const auto s = reinterpret_cast<const std::int8_t*>(weight.scales)[element / (kGroup / 2)];
    return make_float2(d * static_cast<float>(s), 0.0f);
  }
}

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
    const float2 scale = load_scales<kType>(weight, element);
    constexpr int kZero = kType == DType::kQ4_0 ? 8 : kType == DType::kQ6_K ? 32 : 0;
    const int in_group = static_cast<int>(col % kGroup), upper = in_group < kGroup / 2 ? 0 : 1;
    const uint2 bytes = load_8_bytes(weight.quants + element / kGroup * 16 + in_group % 16);
    std::uint32_t high[2] = {};  // of columns col ..., col + 4 ...: the bits of pairs in two bytes
    if constexpr (kType == DType::kQ6_K) {
      const auto* const halves = reinterpret_cast<const std::uint16_t*>(
          weight.high + element / 128 * 32 + in_group % 16 / 4 * 8 + element % 128 / kGroup * 2);
      high[0] = halves[0], high[1] = halves[4];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      unsigned code = (i < 4 ? bytes.x : bytes.y) >> (8 * (i % 4) + 4 * upper) & 15;
      if constexpr (kType == DType::kQ6_K)
        code |= (high[i / 4] >> (8 * (i % 2) + 4 * upper + i % 4 / 2 * 2) & 3) << 4;
      f[i] = scale.x * static_cast<float>(static_cast<int>(code) - kZero) + scale.y;
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
    case DType::kQ4_K:
      return body(DTypeTag<DType::kQ4_K>());
    case DType::kQ6_K:
      return body(DTypeTag<DType::kQ6_K>());
    default:
      REDLINE_CHECK(false, "a type that matrices are stored as on the device");
  }
}

}  // namespace redline::cuda
