#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <vector>

#include "kernels/convert.h"

namespace redline {
namespace {

constexpr std::int64_t kRows = 6, kCols = 64, kBlocks = 7;

// tests/goldens/make_dtype_goldens.py says what the file holds.
struct Golden {
  DType dtype;
  std::vector<float> input;
  std::vector<std::byte> stored;
  std::vector<float> values;
};

struct Goldens {
  std::vector<Golden> rows;
  std::vector<Golden> blocks;  // without input
};

Goldens read_goldens() {
  std::ifstream in(REDLINE_SOURCE_DIR "/tests/goldens/dtype_goldens.bin", std::ios::binary);
  const auto read = [&](void* data, std::size_t bytes) {
    in.read(static_cast<char*>(data), static_cast<std::streamsize>(bytes));
  };
  Goldens goldens;
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                            DType::kQ5_1, DType::kMXFP4}) {
    Golden golden{dtype, std::vector<float>(kRows * kCols), {}, std::vector<float>(kRows * kCols)};
    golden.stored.resize(static_cast<std::size_t>(kRows * row_bytes(dtype, kCols)));
    read(golden.input.data(), golden.input.size() * sizeof(float));
    read(golden.stored.data(), golden.stored.size());
    read(golden.values.data(), golden.values.size() * sizeof(float));
    goldens.rows.push_back(std::move(golden));
  }
  for (int i = static_cast<int>(DType::kQ5_0); i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::int64_t elements = kBlocks * traits(dtype).block_elements;
    Golden golden{dtype, {}, {}, std::vector<float>(static_cast<std::size_t>(elements))};
    golden.stored.resize(static_cast<std::size_t>(row_bytes(dtype, elements)));
    read(golden.stored.data(), golden.stored.size());
    read(golden.values.data(), golden.values.size() * sizeof(float));
    goldens.blocks.push_back(std::move(golden));
  }
  EXPECT_TRUE(in.good() && in.peek() == std::ifstream::traits_type::eof()) << "the golden file is whole";
  return goldens;
}

TEST(DtypeGoldens, QuantiseBitForBitAsTheGgufPackage) {
  for (const Golden& golden : read_goldens().rows) {
    std::vector<std::byte> stored(golden.stored.size());
    for (std::int64_t i = 0; i < kRows; ++i)
      quantize_row(golden.dtype, golden.input.data() + i * kCols, kCols,
                   stored.data() + i * row_bytes(golden.dtype, kCols));
    EXPECT_EQ(stored, golden.stored) << name(golden.dtype);
  }
}

TEST(DtypeGoldens, DequantiseBitForBitAsTheGgufPackage) {
  for (const Golden& golden : read_goldens().rows) {
    std::vector<float> values(golden.values.size());
    for (std::int64_t i = 0; i < kRows; ++i)
      dequantize_row(golden.dtype, golden.stored.data() + i * row_bytes(golden.dtype, kCols), kCols,
                     values.data() + i * kCols);
    EXPECT_EQ(values, golden.values) << name(golden.dtype);
  }
}

TEST(DtypeGoldens, BlocksOfRandomBytesDequantiseBitForBitAsTheGgufPackage) {
  for (const Golden& golden : read_goldens().blocks) {
    std::vector<float> values(golden.values.size());
    dequantize_row(golden.dtype, golden.stored.data(), std::ssize(values), values.data());
    EXPECT_EQ(0, std::memcmp(values.data(), golden.values.data(), values.size() * sizeof(float)))
        << name(golden.dtype);
  }
}

TEST(Dtypes, AreFoundByNameInAnyCase) {
  for (int i = 0; i < kNumDTypes; ++i)
    EXPECT_EQ(dtype_from_name(name(static_cast<DType>(i))), static_cast<DType>(i));
  EXPECT_EQ(dtype_from_name("Q4_K"), DType::kQ4_K);
  EXPECT_EQ(dtype_from_name("iQ4_xS"), DType::kIQ4_XS);
  EXPECT_EQ(dtype_from_name("q4_"), std::nullopt);
  EXPECT_EQ(dtype_from_name("q4_kk"), std::nullopt);
}

TEST(E4M3, HasTwoNaNsAndNoInfinity) {
  for (int code = 0; code < 256; ++code)
    EXPECT_EQ(std::isfinite(e4m3_to_f32(static_cast<std::uint8_t>(code))), (code & 0x7f) != 0x7f) << code;
  EXPECT_TRUE(std::isnan(e4m3_to_f32(0x7f)) && std::isnan(e4m3_to_f32(0xff)));
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0F);
  EXPECT_EQ(e4m3_to_f32(0x81), -0x1p-9F);
}

TEST(QuantizeRow, KeepsF32AsItIs) {
  const float x[3] = {1.5F, -0.0F, 1e-40F};
  float stored[3];
  quantize_row(DType::kF32, x, 3, reinterpret_cast<std::byte*>(stored));
  EXPECT_EQ(std::memcmp(x, stored, sizeof x), 0);
}

TEST(QuantizeRow, TurnsABlockBelowTheScalesRangeIntoZeros) {
  const std::vector<float> x(256, std::numeric_limits<float>::denorm_min());
  for (int i = static_cast<int>(DType::kQ8_0); i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, 256)), std::byte{0x55});
    quantize_row(dtype, x.data(), 256, stored.data());
    std::vector<float> values(256, 1.0F);
    dequantize_row(dtype, stored.data(), 256, values.data());
    EXPECT_EQ(values, std::vector<float>(256, 0.0F)) << name(dtype);
  }
}

TEST(QuantizeRow, LeavesAnInfinityVisible) {
  for (int i = static_cast<int>(DType::kF16); i < kNumDTypes; ++i)
    for (const float sign : {1.0F, -1.0F}) {
      const auto dtype = static_cast<DType>(i);
      std::vector<float> x(256, 0.25F);
      x[7] = sign * std::numeric_limits<float>::infinity();
      std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, 256)));
      quantize_row(dtype, x.data(), 256, stored.data());
      dequantize_row(dtype, stored.data(), 256, x.data());
      EXPECT_FALSE(std::isfinite(x[7])) << name(dtype);
    }
}

// The root mean square of what quantising x loses, by that of x.
double loss(DType dtype, const std::vector<float>& x, std::vector<float>* values = nullptr) {
  std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, std::ssize(x))));
  quantize_row(dtype, x.data(), std::ssize(x), stored.data());
  std::vector<float> back(x.size());
  dequantize_row(dtype, stored.data(), std::ssize(x), back.data());
  double lost = 0, all = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    lost += (x[i] - back[i]) * (x[i] - back[i]);
    all += x[i] * x[i];
  }
  if (values) *values = back;
  return std::sqrt(lost / all);
}

TEST(QuantizeRow, LosesLittleOfNormalNumbersAndNextToNothingOfItsOwnValues) {
  const std::pair<DType, double> losses[] = {
      {DType::kF32, 0},       {DType::kF16, 0.0002},   {DType::kBF16, 0.0017},  {DType::kQ8_0, 0.0053},
      {DType::kQ4_0, 0.086},  {DType::kQ4_1, 0.078},   {DType::kQ5_0, 0.043},   {DType::kQ5_1, 0.038},
      {DType::kQ2_K, 0.269},  {DType::kQ3_K, 0.143},   {DType::kQ4_K, 0.072},   {DType::kQ5_K, 0.036},
      {DType::kQ6_K, 0.0173}, {DType::kIQ4_NL, 0.076}, {DType::kIQ4_XS, 0.077}, {DType::kMXFP4, 0.115},
      {DType::kF8E4M3, 0.026}};
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> x(256 * 64);
  for (float& v : x) v = normal(random);
  for (const auto& [dtype, expected] : losses) {
    std::vector<float> own;
    const double lost = loss(dtype, x, &own);
    EXPECT_LE(lost, 1.05 * expected) << name(dtype);
    EXPECT_GE(lost, 0.9 * expected) << name(dtype) << ": better than it can be";
    EXPECT_LE(loss(dtype, own), 1e-5) << name(dtype);
  }
}

// Constant groups, one value far out, one sign only, ends of the range: what a search for scales stumbles
// over.
TEST(QuantizeRow, SurvivesOddGroups) {
  std::mt19937 random(12);
  std::normal_distribution<float> normal;
  const std::pair<const char*, float (*)(int, float)> shapes[] = {
      {"constant", [](int, float) { return 0.25F; }},
      {"negative constant", [](int, float) { return -3.0F; }},
      {"groups of constants", [](int i, float) { return static_cast<float>(i / 16 % 7 - 3); }},
      {"positive", [](int, float n) { return 5.0F + n; }},
      {"negative", [](int, float n) { return -5.0F - 0.1F * n; }},
      {"one far out", [](int i, float n) { return i == 77 ? 300.0F : n; }},
      {"half zeros", [](int i, float n) { return i / 32 % 2 ? 0.0F : n; }},
      {"large", [](int, float n) { return 1000.0F * n; }},
      {"small", [](int, float n) { return 1e-4F * n; }}};
  for (const auto& [shape, make] : shapes)
    for (int i = 0; i < kNumDTypes; ++i) {
      std::vector<float> x(512);
      for (int j = 0; j < 512; ++j) x[static_cast<std::size_t>(j)] = make(j, normal(random));
      EXPECT_LE(loss(static_cast<DType>(i), x), 0.4) << shape << ", " << name(static_cast<DType>(i));
    }
}

TEST(E4M3, RoundsToTheNearestTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_f32(static_cast<std::uint8_t>(code));
    const float high = e4m3_to_f32(static_cast<std::uint8_t>(code + 1)), middle = (low + high) / 2;
    for (const float sign : {1.0F, -1.0F}) {
      const int bit = sign < 0 ? 0x80 : 0;
      EXPECT_EQ(f32_to_e4m3(sign * low), code | bit);
      EXPECT_EQ(f32_to_e4m3(sign * std::nextafter(middle, 0.0F)), code | bit);
      EXPECT_EQ(f32_to_e4m3(sign * middle), (code % 2 ? code + 1 : code) | bit);
      EXPECT_EQ(f32_to_e4m3(sign * std::nextafter(middle, 500.0F)), (code + 1) | bit);
    }
  }
  EXPECT_EQ(f32_to_e4m3(1e9F), 0x7e);
  EXPECT_EQ(f32_to_e4m3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(f32_to_e4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7f, 0x7f);
}

}  // namespace
}  // namespace redline
