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

/// The two halves of IQ4's and MXFP4's meaning: what each of the 16 codes stands for, in units of the scale.
inline constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// MXFP4's scale 2^(e - 128): half of what e means, since kMxfp4Values are twice the values of FP4.
inline float mxfp4_scale(std::uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1) << 23);
}

/// E4M3 without infinities: sign, 4 bits of exponent (bias 7), 3 of mantissa; 0x7f and 0xff are NaN. Exact.
inline float e4m3_to_f32(std::uint8_t code) {
  if ((code & 0x7f) == 0x7f) return std::bit_cast<float>(std::uint32_t{code} << 24 | 0x7fc00000u);
  // The same bits as an fp16, whose exponent has a bias of 15.
  return f16_to_f32(static_cast<std::uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7)) * 256.0F;
}

/// Stores `x` as f16 at `bytes`, which may be unaligned.
inline void store_f16(float x, std::byte* bytes) {
  const std::uint16_t value = f32_to_f16(x);
  std::memcpy(bytes, &value, sizeof value);
}

/// out[0 .. n) = the f32 values of a row of `n` elements stored as `dtype`. Requires n to be a multiple of
/// the type's block. Operations and their order are those of the `gguf` package: with what DTypeTraits writes
/// in parentheses each one f32 product, every value is one more product and at most one sum.
void dequantize_row(DType dtype, const std::byte* row, std::int64_t n, float* out);

/// Rounds to the nearest E4M3, ties to even; beyond 448, infinities included, to 448; a NaN stays a NaN.
std::uint8_t f32_to_e4m3(float x);

/// Stores x[0 .. n) as a row of `dtype` at `row`. Requires n to be a multiple of the type's block. f16 and
/// bf16 round to nearest even. q8_0, q4_0, q5_0, q4_1, q5_1 and mxfp4 choose scales and round as ggml's
/// reference quantisers do (q8_0: d = max|x| / 127; q4_0, q5_0: d = -x / 8, -x / 16 of the x furthest from 0;
/// q4_1, q5_1: d = (max - min) / 15, / 31, m = min; mxfp4: e from the largest's exponent), bit for bit on
/// finite input. K types and IQ4 search for the scales of least squared error (quantize_search.h), which may
/// be other bits than ggml's search finds. f8_e4m3: scale = max|x| / 448.
void quantize_row(DType dtype, const float* x, std::int64_t n, std::byte* row);

}  // namespace redline
