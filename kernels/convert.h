// Scalar conversions between storage types and f32: the meaning of every stored number. Vectorised kernels
// are tested against these.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace redline {

/// bf16 is the upper half of an f32.
inline float bf16_to_f32(std::uint16_t h) { return std::bit_cast<float>(std::uint32_t{h} << 16); }

/// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
inline std::uint16_t f32_to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return static_cast<std::uint16_t>(u >> 16 | 0x40);
  return static_cast<std::uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/// Exact, subnormals and infinities included.
inline float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h} << 16 & 0x80000000u;
  const std::uint32_t magnitude = h & 0x7fffu;
  if (magnitude < 0x400) {  // zero, or a multiple of the smallest subnormal 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  // The exponent's bias grows from 15 to 127; that of infinities and NaNs from 31 to 255.
  const std::uint32_t bias = magnitude < 0x7c00 ? 112u << 23 : 224u << 23;
  return std::bit_cast<float>(((magnitude << 13) + bias) | sign);
}

/// Rounds to nearest, ties to even; overflow becomes infinity; a NaN stays a (quiet) NaN.
inline std::uint16_t f32_to_f16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = u >> 16 & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to 2^16 or more
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 1/2 leaves multiples of 2^-24 in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<std::uint16_t>(sign | (rounded - (112u << 23)) >> 13);
}

/// The 16-bit number that starts at `bytes`, which may be unaligned.
inline std::uint16_t load_u16(const std::byte* bytes) {
  std::uint16_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// out[0 .. n) = the f32 values of a row of `n` elements stored as `dtype` (layouts: DTypeTraits). Requires n
/// to be a multiple of the type's block. Each value is one f32 product and at most one f32 sum.
inline void dequantize_row(DType dtype, const std::byte* row, std::int64_t n, float* out) {
  const int elements = traits(dtype).block_elements, bytes = traits(dtype).block_bytes;
  const auto byte_at = [](const std::byte* p, int i) { return std::to_integer<int>(p[i]); };
  for (std::int64_t i = 0; i < n; i += elements, row += bytes, out += elements) {
    switch (dtype) {
      case DType::kF32:
        std::memcpy(out, row, sizeof *out);
        break;
      case DType::kF16:
        *out = f16_to_f32(load_u16(row));
        break;
      case DType::kBF16:
        *out = bf16_to_f32(load_u16(row));
        break;
      case DType::kQ8_0: {
        const float d = f16_to_f32(load_u16(row));
        for (int j = 0; j < 32; ++j)
          out[j] = d * static_cast<float>(static_cast<std::int8_t>(byte_at(row, 2 + j)));
        break;
      }
      case DType::kQ4_0: {
        const float d = f16_to_f32(load_u16(row));
        for (int j = 0; j < 16; ++j) {
          out[j] = d * static_cast<float>((byte_at(row, 2 + j) & 15) - 8);
          out[j + 16] = d * static_cast<float>((byte_at(row, 2 + j) >> 4) - 8);
        }
        break;
      }
      case DType::kQ4_1: {
        const float d = f16_to_f32(load_u16(row)), m = f16_to_f32(load_u16(row + 2));
        for (int j = 0; j < 16; ++j) {
          out[j] = d * static_cast<float>(byte_at(row, 4 + j) & 15) + m;
          out[j + 16] = d * static_cast<float>(byte_at(row, 4 + j) >> 4) + m;
        }
        break;
      }
    }
  }
}

/// Stores x[0 .. n) as a row of `dtype` at `row`. Requires n to be a multiple of the type's block. f16 and
/// bf16 round to nearest even; the quantised types choose scales and round as ggml's reference quantisers do
/// (q8_0: d = max|x| / 127; q4_0: d = -x / 8 of the x furthest from 0; q4_1: d = (max - min) / 15, m = min),
/// bit for bit on finite input.
void quantize_row(DType dtype, const float* x, std::int64_t n, std::byte* row);

}  // namespace redline
