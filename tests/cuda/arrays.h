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
#include "kernels/cuda/weight_layout.h"

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

/// A random matrix stored as `dtype`: its arrays on the device, and the values that they mean. Groups of
/// columns differ in magnitude and mean.
class WeightsUnderTest {
 public:
  WeightsUnderTest(DType dtype, std::int64_t rows, std::int64_t cols, Random& random, float scale = 0.5f)
      : dtype_(dtype), rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {
    const auto bytes = array_row_bytes(dtype, cols);
    const WeightLayout layout = weight_layout(dtype, rows, cols);
    std::vector<std::byte> arrays(static_cast<std::size_t>(layout.num_bytes), std::byte{0xff});
    std::vector<float> row(static_cast<std::size_t>(cols));
    std::vector<std::byte> packed(static_cast<std::size_t>(row_bytes(dtype, cols)));
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::size_t c = 0; c < row.size(); ++c)
        row[c] =
            random.normal(scale * (c / 64 % 2 == 0 ? 1.0f : 0.6f)) + (c / 32 % 3 == 0 ? 0.1f * scale : 0);
      quantize_row(dtype, row.data(), cols, packed.data());
      dequantize_row(dtype, packed.data(), cols, values_.data() + i * cols);
      PerWeightArray<std::byte*> to{};
      for (std::size_t a = 0; a < to.size(); ++a)
        if (bytes[a] > 0) to[a] = arrays.data() + layout.offsets[a] + i * bytes[a];
      if (is_quantized(dtype))
        split_row(dtype, packed.data(), cols, to);
      else
        std::copy(packed.begin(), packed.end(), to[0]);
    }
    arrays_.emplace(arrays);
  }
  WeightArrays arrays() { return weight_arrays_at(arrays_->get(), dtype_, rows_, cols_); }
  const float* row(std::int64_t i) const { return values_.data() + i * cols_; }

 private:
  DType dtype_;
  std::int64_t rows_, cols_;
  std::vector<float> values_;
  std::optional<dev::Buffer<std::byte>> arrays_;
};

/// The least number of columns from `cols` on that rows of `dtype` may have.
constexpr int fitting_columns(DType dtype, int cols) {
  const int unit = traits(dtype).block_elements;
  return (cols + unit - 1) / unit * unit;
}

inline constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                      DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ6_K};

}  // namespace redline::cuda::test
