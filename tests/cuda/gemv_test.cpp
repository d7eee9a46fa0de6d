#include "kernels/cuda/gemv.cuh"

#include "tests/cuda/arrays.h"

namespace redline::cuda::test {
namespace {

struct Shape {
  int num_tokens, n, k;
};

// x and out lie in rows that are wider than they need be.
template <Epilogue kEpilogue, class A, class Out>
void expect_product(DType dtype, const Shape& shape, std::uint64_t seed) {
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
  gemv<kEpilogue>(LinearArgs<A, Out>{.weight = weight.arrays(),
                                     .x = device_x.get(),
                                     .x_stride = x_stride,
                                     .out = out.get(),
                                     .out_stride = out_stride,
                                     .num_tokens = m},
                  {});
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

class GemvKernels : public testing::TestWithParam<DType> {
 protected:
  template <class Expect>
  void for_shapes(Expect&& expect) {
    std::uint64_t seed = 100;
    for (const Shape& shape : {Shape{1, 16, 32},
                               {1, 1, 32},
                               {1, 50, 576},
                               {2, 33, 96},
                               {3, 17, 2080},
                               {5, 40, 1536},
                               {8, 7, 160},
                               {8, 64, 64},
                               {9, 35, 416},
                               {16, 20, 672},
                               {16, 1, 32},
                               {0, 5, 32}})
      expect(shape, ++seed);
    if (!is_quantized(GetParam()))
      for (const Shape& shape : {Shape{1, 9, 40}, {4, 18, 264}, {1, 9, 35}, {3, 5, 1}, {11, 3, 66}})
        expect(shape, ++seed);
  }
};

TEST_P(GemvKernels, MultiplyBf16) {
  for_shapes([&](const Shape& shape, std::uint64_t seed) {
    expect_product<Epilogue::kNone, bf16, bf16>(GetParam(), shape, seed);
    expect_product<Epilogue::kNone, bf16, float>(GetParam(), shape, seed);
  });
}

TEST_P(GemvKernels, MultiplyF32) {
  for_shapes([&](const Shape& shape, std::uint64_t seed) {
    expect_product<Epilogue::kNone, float, float>(GetParam(), shape, seed);
  });
}

TEST_P(GemvKernels, MultiplyByTheSiluOfTheGate) {
  for_shapes([&](const Shape& shape, std::uint64_t seed) {
    expect_product<Epilogue::kSiluMul, bf16, bf16>(GetParam(), shape, seed);
    expect_product<Epilogue::kSiluMul, float, float>(GetParam(), shape, seed);
  });
}

INSTANTIATE_TEST_SUITE_P(Types, GemvKernels, testing::ValuesIn(kAllTypes),
                         [](const auto& type) { return std::string(name(type.param)); });

// A row's results do not depend on which rows run beside it: the order of its sum is the same.
TEST(GemvKernel, GivesATokenTheSameProductInAnyBatch) {
  Random random(7);
  WeightsUnderTest weight(DType::kBF16, 40, 320, random);
  const std::vector<bf16> x = random.normals<bf16>(16 * 320);
  dev::Buffer<bf16> device_x(x);
  const auto products = [&](int first, int count) {
    dev::Buffer<float> out(static_cast<std::size_t>(40 * count));
    gemv(LinearArgs<bf16, float>{.weight = weight.arrays(),
                                 .x = device_x.get() + first * 320,
                                 .x_stride = 320,
                                 .out = out.get(),
                                 .out_stride = 40,
                                 .num_tokens = count},
         {});
    return download(out);
  };
  const std::vector<float> pair = products(5, 2), five = products(5, 5);
  const std::vector<float> all = products(0, 16);
  for (int token = 0; token < 16; ++token) {
    const std::vector<float> alone = products(token, 1);
    EXPECT_EQ(alone, std::vector<float>(all.begin() + 40 * token, all.begin() + 40 * (token + 1)));
  }
  EXPECT_EQ(pair, std::vector<float>(all.begin() + 200, all.begin() + 280));
  EXPECT_EQ(five, std::vector<float>(all.begin() + 200, all.begin() + 400));
}

TEST(GemvKernel, KeepsAnInfiniteTokenToItself) {
  Random random(8);
  WeightsUnderTest weight(DType::kQ4_1, 20, 96, random);
  std::vector<bf16> x = random.normals<bf16>(3 * 96);
  x[96 + 5] = from_f32<bf16>(INFINITY);
  dev::Buffer<bf16> device_x(x);
  dev::Buffer<float> out(60);
  gemv(LinearArgs<bf16, float>{.weight = weight.arrays(),
                               .x = device_x.get(),
                               .x_stride = 96,
                               .out = out.get(),
                               .out_stride = 20,
                               .num_tokens = 3},
       {});
  const std::vector<float> got = download(out);
  for (std::size_t i = 0; i < 60; ++i) EXPECT_EQ(std::isfinite(got[i]), i / 20 != 1) << i;
}

}  // namespace
}  // namespace redline::cuda::test
