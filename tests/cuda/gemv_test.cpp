#include "kernels/cuda/gemv.cuh"

#include "tests/cuda/product.h"

namespace redline::cuda::test {
namespace {

template <Epilogue kEpilogue, class A, class Out>
void expect_gemv(DType dtype, const ProductShape& shape, std::uint64_t seed) {
  expect_product<kEpilogue, A, Out>(dtype, shape, seed,
                                    [](const LinearArgs<A, Out>& args) { gemv<kEpilogue>(args, {}); });
}

class GemvKernels : public testing::TestWithParam<DType> {
 protected:
  template <class Expect>
  void for_shapes(Expect&& expect) {
    std::uint64_t seed = 100;
    for (const ProductShape& shape : {ProductShape{1, 16, 32},
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
      expect(fitting(GetParam(), shape), ++seed);
    if (!is_quantized(GetParam()))
      for (const ProductShape& shape :
           {ProductShape{1, 9, 40}, {4, 18, 264}, {1, 9, 35}, {3, 5, 1}, {11, 3, 66}})
        expect(shape, ++seed);
  }
};

TEST_P(GemvKernels, MultiplyBf16) {
  for_shapes([&](const ProductShape& shape, std::uint64_t seed) {
    expect_gemv<Epilogue::kNone, bf16, bf16>(GetParam(), shape, seed);
    expect_gemv<Epilogue::kNone, bf16, float>(GetParam(), shape, seed);
  });
}

TEST_P(GemvKernels, MultiplyF32) {
  for_shapes([&](const ProductShape& shape, std::uint64_t seed) {
    expect_gemv<Epilogue::kNone, float, float>(GetParam(), shape, seed);
  });
}

TEST_P(GemvKernels, MultiplyByTheSiluOfTheGate) {
  for_shapes([&](const ProductShape& shape, std::uint64_t seed) {
    expect_gemv<Epilogue::kSiluMul, bf16, bf16>(GetParam(), shape, seed);
    expect_gemv<Epilogue::kSiluMul, float, float>(GetParam(), shape, seed);
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
