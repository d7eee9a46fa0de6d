// Device arrays, random values and comparisons for the tests of CUDA kernels.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "kernels/convert.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda::test {

inline double to_double(float x) { return x; }
inline double to_double(bf16 x) { return to_f32(x); }

/// Seeded values; tests print the seed when they fail.
class Random {
 public:
  explicit Random(std::uint64_t seed) : generator_(seed) {}
  float normal(float scale = 1) { return scale * std::normal_distribution<float>()(generator_); }
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(generator_); }
  template <class T>
  std::vector<T> normals(std::int64_t count, float scale = 1) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = from_f32<T>(normal(scale));
    return values;
  }

 private:
  std::mt19937_64 generator_;
};

template <class T>
std::vector<T> download(dev::Buffer<T>& array) {
  dev::sync();
  return array.download();
}

/// Expects |got - want| <= absolute + relative |want|; two NaN agree, equal infinities too.
inline void expect_close(double got, double want, double absolute, double relative, std::int64_t index) {
  if (std::isnan(want) ? std::isnan(got) : got == want) return;
  EXPECT_LE(std::abs(got - want), absolute + relative * std::abs(want))
      << "element " << index << ": got " << got << ", want " << want;
}

/// What one rounding to T may change.
template <class T>
constexpr double rounding() {
  return sizeof(T) == 2 ? 0x1p-8 : 0x1p-23;
}

/// A random matrix stored as `dtype`: its arrays on the device, and the values that they mean.
class WeightsUnderTest {
 public:
  WeightsUnderTest(DType dtype, std::int64_t rows, std::int64_t cols, Random& random, float scale = 0.5f)
      : dtype_(dtype), rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {
    const int group = traits(dtype).block_elements, block = traits(dtype).block_bytes;
    const int header = !is_quantized(dtype) ? 0 : dtype == DType::kQ4_1 ? 4 : 2;
    std::vector<float> row(static_cast<std::size_t>(cols));
    std::vector<std::byte> packed(static_cast<std::size_t>(row_bytes(dtype, cols))), elements, headers;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (float& value : row) value = random.normal(scale);
      quantize_row(dtype, row.data(), cols, packed.data());
      dequantize_row(dtype, packed.data(), cols, values_.data() + i * cols);
      for (std::int64_t b = 0; b < cols / group; ++b) {
        const auto at = packed.begin() + b * block;
        headers.insert(headers.end(), at, at + header);
        elements.insert(elements.end(), at + header, at + block);
      }
    }
    quants_.emplace(elements);
    scales_.emplace(headers);
  }
  WeightArrays arrays() {
    return {dtype_, quants_->get(), is_quantized(dtype_) ? scales_->get() : nullptr, rows_, cols_};
  }
  const float* row(std::int64_t i) const { return values_.data() + i * cols_; }

 private:
  DType dtype_;
  std::int64_t rows_, cols_;
  std::vector<float> values_;
  std::optional<dev::Buffer<std::byte>> quants_, scales_;
};

inline constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                      DType::kQ8_0, DType::kQ4_0, DType::kQ4_1};

}  // namespace redline::cuda::test
