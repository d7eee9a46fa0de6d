#include "kernels/convert.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace redline {
namespace {

// The value of fp16 bits by definition, in double.
double f16_value(std::uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) value = fraction ? std::numeric_limits<double>::quiet_NaN() : HUGE_VAL;
  return h & 0x8000 ? -value : value;
}

TEST(Convert, EveryF16IsItsDefinitionAndSurvivesTheRoundTrip) {
  for (int i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const double expected = f16_value(h);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(h))) << i;
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f16_to_f32(h))))) << i;
      continue;
    }
    EXPECT_EQ(static_cast<double>(f16_to_f32(h)), expected) << i;
    EXPECT_EQ(std::signbit(f16_to_f32(h)), (h & 0x8000) != 0) << i;
    EXPECT_EQ(f32_to_f16(f16_to_f32(h)), h) << i;
  }
}

TEST(Convert, F16RoundsToNearestTiesToEven) {
  for (int i = 0; i < 0x7bff; ++i) {  // every gap between finite neighbours
    const auto low = static_cast<std::uint16_t>(i), high = static_cast<std::uint16_t>(i + 1);
    const float middle = static_cast<float>((f16_value(low) + f16_value(high)) / 2);
    EXPECT_EQ(f32_to_f16(middle), i % 2 == 0 ? low : high) << i;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), low) << i;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, 1e30f)), high) << i;
    EXPECT_EQ(f32_to_f16(-middle), (i % 2 == 0 ? low : high) | 0x8000) << i;
  }
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::max()), 0xfc00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(Convert, BF16RoundsToNearestTiesToEven) {
  for (int i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const float x = bf16_to_f32(h);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(x)))) << i;
      continue;
    }
    EXPECT_EQ(f32_to_bf16(x), h);
    if (std::isinf(x)) continue;
    const auto bits = std::uint32_t{h} << 16;
    const auto next = static_cast<std::uint16_t>(h + 1);
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x7fff)), h) << i;
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8000)), i % 2 == 0 ? h : next) << i;
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits | 0x8001)), next) << i;
  }
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Convert, QuantisedBlocksFollowTheirFormulas) {
  constexpr float kD = 0.375f, kM = -1.25f;
  const auto put = [](std::vector<std::byte>& row, int value) {
    row.push_back(static_cast<std::byte>(value));
  };
  const auto put_f16 = [&](std::vector<std::byte>& row, float x) {
    put(row, f32_to_f16(x) & 255);
    put(row, f32_to_f16(x) >> 8);
  };
  std::vector<std::byte> q8, q40, q41;
  for (int block = 0; block < 2; ++block) {
    const float d = kD * static_cast<float>(block + 1);
    put_f16(q8, d);
    for (int j = 0; j < 32; ++j) put(q8, 7 * j - 128);
    put_f16(q40, d);
    put_f16(q41, d);
    put_f16(q41, kM);
    for (int j = 0; j < 16; ++j) {
      put(q40, j | (15 - j) << 4);
      put(q41, j | (15 - j) << 4);
    }
  }
  float out[64];
  for (int block = 0; block < 2; ++block) {
    const float d = kD * static_cast<float>(block + 1);
    const int first = 32 * block;
    dequantize_row(DType::kQ8_0, q8.data(), 64, out);
    for (int j = 0; j < 32; ++j) EXPECT_EQ(out[first + j], d * static_cast<float>(7 * j - 128));
    dequantize_row(DType::kQ4_0, q40.data(), 64, out);
    for (int j = 0; j < 32; ++j) EXPECT_EQ(out[first + j], d * static_cast<float>((j < 16 ? j : 31 - j) - 8));
    dequantize_row(DType::kQ4_1, q41.data(), 64, out);
    for (int j = 0; j < 32; ++j) EXPECT_EQ(out[first + j], d * static_cast<float>(j < 16 ? j : 31 - j) + kM);
  }
}

}  // namespace
}  // namespace redline
