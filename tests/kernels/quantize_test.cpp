#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
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
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
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
  const std::vector<float> x(32, std::numeric_limits<float>::denorm_min());
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, 32)));
    quantize_row(dtype, x.data(), 32, stored.data());
    std::vector<float> values(32, 1.0F);
    dequantize_row(dtype, stored.data(), 32, values.data());
    EXPECT_EQ(values, std::vector<float>(32, 0.0F)) << name(dtype);
  }
}

TEST(QuantizeRow, LeavesAnInfinityVisible) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    std::vector<float> x(32, 0.25F);
    x[7] = std::numeric_limits<float>::infinity();
    std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, 32)));
    quantize_row(dtype, x.data(), 32, stored.data());
    dequantize_row(dtype, stored.data(), 32, x.data());
    EXPECT_FALSE(std::isfinite(x[7])) << name(dtype);
  }
}

}  // namespace
}  // namespace redline
