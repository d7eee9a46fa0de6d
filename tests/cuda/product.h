// Products of few tokens with a stored matrix, held against float64.
#pragma once

#include "kernels/cuda/linear_args.cuh"
#include "tests/cuda/arrays.h"

namespace redline::cuda::test {

struct ProductShape {
  int num_tokens, n, k;
};

/// `shape` with as many more columns as rows of `dtype` need.
inline ProductShape fitting(DType dtype, ProductShape shape) {
  shape.k = fitting_columns(dtype, shape.k);
  return shape;
}

/// Runs `multiply` (LinearArgs) on random numbers; x and out lie in rows that are wider than they need be.
template <Epilogue kEpilogue, class A, class Out, class Multiply>
void expect_product(DType dtype, const ProductShape& shape, std::uint64_t seed, Multiply&& multiply) {
  const auto [m, n, k] = shape;
  SCOPED_TRACE(testing::Message() << name(dtype) << ", M " << m << ", N " << n << ", K " << k << ", seed "
                                  << seed);
  constexpr bool kSilu = kEpilogue == Epilogue::kSiluMul;
  Random random(seed);
  WeightsUnderTest weight(dtype, kSilu ? 2 * n : n, k, random, 0.1f);
  const int x_stride = k + (k % 8 == 0 ? 8 : 1), out_stride = n + 3;
  std::vector<A> x = random.normals<A>(m * x_stride);
  for (int token = 0; token < m; ++token)  // what lies between rows must not matter
    for (int i = k; i < x_stride; ++i) x[static_cast<std::size_t>(token * x_stride + i)] = from_f32<A>(NAN);
  dev::Buffer<A> device_x(x);
  dev::Buffer<Out> out(static_cast<std::size_t>(m * out_stride));
  multiply(LinearArgs<A, Out>{.weight = weight.arrays(),
                              .x = device_x.get(),
                              .x_stride = x_stride,
                              .out = out.get(),
                              .out_stride = out_stride,
                              .num_tokens = m});
  const std::vector<Out> got = download(out);
  for (int token = 0; token < m; ++token)
    for (int i = 0; i < out_stride; ++i) {
      const int at = token * out_stride + i;
      const double value = to_double(got[static_cast<std::size_t>(at)]);
      if (i >= n) {
        EXPECT_TRUE(std::isnan(value)) << "written past the row";
        continue;
      }
      double sum[2] = {}, size[2] = {};
      for (int matrix = 0; matrix < (kSilu ? 2 : 1); ++matrix)
        for (int e = 0; e < k; ++e) {
          const double term = double{weight.row(i + matrix * n)[e]} *
                              to_double(x[static_cast<std::size_t>(token * x_stride + e)]);
          sum[matrix] += term;
          size[matrix] += std::abs(term);
        }
      const double gate = sum[0] / (1 + std::exp(-sum[0]));
      const double want = kSilu ? gate * sum[1] : sum[0];
      const double slack =
          kSilu ? 2e-6 * (size[0] * std::abs(sum[1]) + size[1] * std::abs(gate)) : 1e-6 * size[0];
      expect_close(value, want, slack, rounding<Out>() + 4e-6, at);
    }
}

}  // namespace redline::cuda::test
