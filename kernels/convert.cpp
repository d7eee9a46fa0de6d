#include "kernels/convert.h"

#include <algorithm>

#include "kernels/check.h"

namespace redline {
namespace {

constexpr int kBlock = 32;

void store_f16(float x, std::byte* out) {
  const std::uint16_t h = f32_to_f16(x);
  std::memcpy(out, &h, sizeof h);
}

// 0 where there is no finite reciprocal: then the block's values vanish at the scale's precision.
float reciprocal(float d) {
  const float r = 1.0F / d;
  return std::abs(r) <= 0x1.fffffep127F ? r : 0.0F;
}

// Rounds down to 0 .. 15; what is not a number becomes 0.
int nibble(float x) { return static_cast<int>(std::min(std::max(0.0F, x), 15.0F)); }

void pack_nibbles(const int* q, std::byte* out) {
  for (int j = 0; j < kBlock / 2; ++j) out[j] = static_cast<std::byte>(q[j] | q[j + kBlock / 2] << 4);
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
  float furthest = x[0];
  for (int j = 1; j < kBlock; ++j)
    if (std::abs(x[j]) > std::abs(furthest)) furthest = x[j];
  const float d = furthest / -8.0F, inverse = reciprocal(d);
  store_f16(d, block);
  int q[kBlock];
  for (int j = 0; j < kBlock; ++j) q[j] = nibble(x[j] * inverse + 8.5F);
  pack_nibbles(q, block + 2);
}

void quantize_q4_1(const float* x, std::byte* block) {
  float low = x[0], high = x[0];
  for (int j = 1; j < kBlock; ++j) {
    low = std::min(low, x[j]);
    high = std::max(high, x[j]);
  }
  const float d = (high - low) / 15.0F, inverse = reciprocal(d);
  store_f16(d, block);
  store_f16(low, block + 2);
  int q[kBlock];
  for (int j = 0; j < kBlock; ++j) q[j] = nibble((x[j] - low) * inverse + 0.5F);
  pack_nibbles(q, block + 4);
}

}  // namespace

void quantize_row(DType dtype, const float* x, std::int64_t n, std::byte* row) {
  const int elements = traits(dtype).block_elements, bytes = traits(dtype).block_bytes;
  for (std::int64_t i = 0; i < n; i += elements, x += elements, row += bytes) {
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
      default:
        REDLINE_CHECK(false, "a type that can be quantised to");
    }
  }
}

}  // namespace redline
