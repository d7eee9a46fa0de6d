// Random weights of every type for tests of kernels.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/convert.h"

namespace redline {

/// A block of `dtype`: any bits in quants and integer scales (int8 -128 included), ordinary floating scales.
inline void fill_random_block(DType dtype, std::byte* block, std::mt19937& random) {
  std::normal_distribution<float> normal;
  const float value = normal(random) * 0.05f;
  for (int b = 0; b < traits(dtype).block_bytes; ++b) block[b] = static_cast<std::byte>(random());
  const auto put_half = [block](int at, float x) {
    const std::uint16_t half = f32_to_f16(x);
    std::memcpy(block + at, &half, 2);
  };
  const float scale = 0.01f + 0.05f * std::abs(value), minimum = -0.1f + value;
  const std::uint16_t bf16 = f32_to_bf16(value);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(block, &value, 4);
      break;
    case DType::kF16:
      put_half(0, value);
      break;
    case DType::kBF16:
      std::memcpy(block, &bf16, 2);
      break;
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kIQ4_NL:
      put_half(0, scale);
      break;
    case DType::kQ4_1:
    case DType::kQ5_1:
      put_half(0, scale);
      put_half(2, minimum);
      break;
    case DType::kQ2_K:
      put_half(80, scale / 8);
      put_half(82, -minimum / 8);
      break;
    case DType::kQ3_K:
      put_half(108, scale / 16);
      break;
    case DType::kQ4_K:
    case DType::kQ5_K:
      put_half(0, scale / 32);
      put_half(2, -minimum / 32);
      break;
    case DType::kQ6_K:
      put_half(208, scale / 64);
      break;
    case DType::kIQ4_XS:
      put_half(0, scale / 16);
      break;
    case DType::kMXFP4:
      block[0] = static_cast<std::byte>(116 + random() % 8);
      break;
    case DType::kF8E4M3:
      std::memcpy(block, &scale, 4);
      for (int i = 4; i < 132; ++i)
        if ((block[i] & std::byte{0x7f}) == std::byte{0x7f}) block[i] ^= std::byte{0x08};
      break;
  }
}

}  // namespace redline
