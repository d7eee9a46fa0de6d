#include "kernels/convert.h"

#include <algorithm>
#include <bit>

#include "kernels/quantize_k.h"
#include "kernels/quantize_search.h"

namespace redline {
namespace {

constexpr int kBlock = 32;

// Rounds down to 0 .. most; what is not a number becomes 0.
int code(float x, float most) { return static_cast<int>(std::min(std::max(0.0F, x), most)); }

float furthest_of(const float* x) {
  float furthest = x[0];
  for (int j = 1; j < kBlock; ++j)
    if (std::abs(x[j]) > std::abs(furthest)) furthest = x[j];
  return furthest;
}

void pack_nibbles(const int* q, std::byte* out) {
  for (int j = 0; j < kBlock / 2; ++j)
    out[j] = static_cast<std::byte>((q[j] & 15) | (q[j + kBlock / 2] & 15) << 4);
}

void pack_fifth_bits(const int* q, std::byte* out) {
  for (int i = 0; i < kBlock / 8; ++i) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (q[8 * i + j] >> 4) << j;
    out[i] = static_cast<std::byte>(bits);
  }
}

void quantize_q8_0(const float* x, std::byte* block) {
  float largest = 0.0F;
  for (int j = 0; j < kBlock; ++j) largest = std::max(largest, std::abs(x[j]));
  const float d = largest / 127.0F, inverse = reciprocal(d);
  store_f16(d, block);
  for (int j = 0; j < kBlock; ++j) {
    const float magnitude = std::min(std::max(0.0F, std::abs(x[j] * inverse)), 127.0F);
    const int floored = static_cast<int>(magnitude);
    // Half away from zero, without the double rounding of magnitude + 0.5.
    const int rounded = floored + (magnitude - static_cast<float>(floored) >= 0.5F ? 1 : 0);
    block[2 + j] = static_cast<std::byte>(x[j] < 0.0F ? -rounded : rounded);
  }
}

void quantize_q4_0(const float* x, std::byte* block) {
  const float d = furthest_of(x) / -8.0F, inverse = reciprocal(d);
  store_f16(d, block);
  int q[kBlock];
  for (int j = 0; j < kBlock; ++j) q[j] = code(x[j] * inverse + 8.5F, 15.0F);
  pack_nibbles(q, block + 2);
}

void quantize_q5_0(const float* x, std::byte* block) {
  const float d = furthest_of(x) / -16.0F, inverse = reciprocal(d);
  store_f16(d, block);
  int q[kBlock];
  for (int j = 0; j < kBlock; ++j) q[j] = code(x[j] * inverse + 16.5F, 31.0F);
  pack_fifth_bits(q, block + 2);
  pack_nibbles(q, block + 6);
}

// Q4_1 and Q5_1: codes up to `most`, d and the minimum.
void quantize_from_minimum(const float* x, float most, int* q, std::byte* block) {
  float low = x[0], high = x[0];
  for (int j = 1; j < kBlock; ++j) {
    low = std::min(low, x[j]);
    high = std::max(high, x[j]);
  }
  const float d = (high - low) / most, inverse = reciprocal(d);
  store_f16(d, block);
  store_f16(low, block + 2);
  for (int j = 0; j < kBlock; ++j) q[j] = code((x[j] - low) * inverse + 0.5F, most);
}

void quantize_q4_1(const float* x, std::byte* block) {
  int q[kBlock];
  quantize_from_minimum(x, 15.0F, q, block);
  pack_nibbles(q, block + 4);
}

void quantize_q5_1(const float* x, std::byte* block) {
  int q[kBlock];
  quantize_from_minimum(x, 31.0F, q, block);
  pack_fifth_bits(q, block + 4);
  pack_nibbles(q, block + 8);
}

void quantize_mxfp4(const float* x, std::byte* block) {
  const float largest = std::abs(furthest_of(x));
  if (!std::isfinite(largest)) {  // the largest scale and code: infinities
    block[0] = std::byte{255};
    std::fill_n(block + 1, kBlock / 2, std::byte{0x77});
    return;
  }
  // The exponent of the largest, less that of FP4's largest, 6 = 1.5 x 2^2; 0 for a block of zeros.
  const int e = largest > 0.0F ? std::max(std::ilogb(largest) - 2 + 127, 0) : 0;
  block[0] = static_cast<std::byte>(e);
  const float d = mxfp4_scale(static_cast<std::uint8_t>(e));
  int q[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    q[j] = 0;
    for (int i = 1; i < 16; ++i) {
      const auto error = [&](int of) { return std::abs(d * static_cast<float>(kMxfp4Values[of]) - x[j]); };
      if (error(i) < error(q[j])) q[j] = i;
    }
  }
  pack_nibbles(q, block + 1);
}

void quantize_f8_e4m3(const float* x, std::byte* block) {
  constexpr int kElements = traits(DType::kF8E4M3).block_elements;
  float largest = 0.0F;
  for (int j = 0; j < kElements; ++j)
    if (!(std::abs(x[j]) <= largest)) largest = std::abs(x[j]);
  const float scale = largest / 448.0F, inverse = reciprocal(scale);
  std::memcpy(block, &scale, sizeof scale);
  for (int j = 0; j < kElements; ++j) block[4 + j] = static_cast<std::byte>(f32_to_e4m3(x[j] * inverse));
}

}  // namespace

std::uint8_t f32_to_e4m3(float x) {
  const auto sign = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(x) >> 24 & 0x80);
  const float magnitude = std::abs(x);
  if (std::isnan(x)) return sign | 0x7f;
  if (magnitude >= 448.0F) return sign | 0x7e;
  if (magnitude < 0x1p-6F) {  // adding 2^14 leaves multiples of 2^-9 in the low bits
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude + 0x1p14F);
    return static_cast<std::uint8_t>(sign | (bits & 0xff));
  }
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
  const std::uint32_t rounded = bits + 0x7ffff + (bits >> 20 & 1);
  return static_cast<std::uint8_t>(sign | (rounded - (120u << 23)) >> 20);
}

void quantize_row(DType dtype, const float* x, std::int64_t n, std::byte* row) {
  const int elements = traits(dtype).block_elements, bytes = traits(dtype).block_bytes;
  for (std::int64_t i = 0; i < n; i += elements, x += elements, row += bytes) {
    std::memset(row, 0, static_cast<std::size_t>(bytes));
    switch (dtype) {
      case DType::kF32:
        std::memcpy(row, x, sizeof *x);
        break;
      case DType::kF16:
        store_f16(*x, row);
        break;
      case DType::kBF16: {
        const std::uint16_t h = f32_to_bf16(*x);
        std::memcpy(row, &h, sizeof h);
        break;
      }
      case DType::kQ8_0:
        quantize_q8_0(x, row);
        break;
      case DType::kQ4_0:
        quantize_q4_0(x, row);
        break;
      case DType::kQ4_1:
        quantize_q4_1(x, row);
        break;
      case DType::kQ5_0:
        quantize_q5_0(x, row);
        break;
      case DType::kQ5_1:
        quantize_q5_1(x, row);
        break;
      case DType::kQ2_K:
        quantize_q2_k(x, row);
        break;
      case DType::kQ3_K:
        quantize_q3_k(x, row);
        break;
      case DType::kQ4_K:
        quantize_q4_k(x, row);
        break;
      case DType::kQ5_K:
        quantize_q5_k(x, row);
        break;
      case DType::kQ6_K:
        quantize_q6_k(x, row);
        break;
      case DType::kIQ4_NL:
        quantize_iq4_nl(x, row);
        break;
      case DType::kIQ4_XS:
        quantize_iq4_xs(x, row);
        break;
      case DType::kMXFP4:
        quantize_mxfp4(x, row);
        break;
      case DType::kF8E4M3:
        quantize_f8_e4m3(x, row);
        break;
    }
  }
}

}  // namespace redline
