#include "kernels/cuda/gemv_ring.cuh"

#include "tests/cuda/product.h"

namespace redline::cuda::test {
namespace {

class GemvRing : public testing::TestWithParam<DType> {
 protected:
  // With more and with fewer blocks than tiles, and a workspace used over and over.
  template <Epilogue kEpilogue, class Out>
  void expect_ring(const ProductShape& shape, std::uint64_t seed) {
    for (const int num_blocks : {1, 3, 20}) {
      SCOPED_TRACE(testing::Message() << num_blocks << " blocks");
      expect_product<kEpilogue, bf16, Out>(GetParam(), shape, seed, [&](const LinearArgs<bf16, Out>& args) {
        ASSERT_TRUE(fits_gemv_ring(args));
        gemv_ring<kEpilogue>(args, workspace(), num_blocks, {});
      });
      EXPECT_EQ(download(arrived_), std::vector<unsigned>(21, 0u)) << "left for the next launch";
    }
  }
  // The norm and the product as one kernel, and as two: the same bits, in x and the residual stream too.
  template <Epilogue kEpilogue, class Out>
  void expect_normed(const ProductShape& shape, int num_blocks, std::uint64_t seed) {
    const auto [m, n, k] = shape;
    SCOPED_TRACE(testing::Message() << "M " << m << ", K " << k << ", " << num_blocks << " blocks, seed "
                                    << seed);
    Random random(seed);
    const int rows = kEpilogue == Epilogue::kSiluMul ? 2 * n : n;
    WeightsUnderTest weight(GetParam(), rows, k, random, 0.1f);
    const std::vector<float> stream = random.normals<float>(m * k), norm_weight = random.normals<float>(k);
    const std::vector<bf16> added = random.normals<bf16>(m * k);
    const auto run = [&](bool as_one) {
      dev::Buffer<float> residual(stream), device_weight(norm_weight);
      dev::Buffer<bf16> delta(added), x(static_cast<std::size_t>(m * k));
      dev::Buffer<Out> out(static_cast<std::size_t>(m * n));
      const LinearArgs<bf16, Out> args{.weight = weight.arrays(),
                                       .x = x.get(),
                                       .x_stride = k,
                                       .out = out.get(),
                                       .out_stride = n,
                                       .num_tokens = m};
      const NormPrologue norm{x.get(), residual.get(), delta.get(), device_weight.get(), 1e-5f};
      EXPECT_TRUE(fits_ring_norm(args, norm));
      if (!as_one)
        add_rms_norm(x.get(), residual.get(), delta.get(), device_weight.get(), m, k, norm.eps, {});
      gemv_ring<kEpilogue>(args, workspace(), num_blocks, {}, as_one ? &norm : nullptr);
      std::vector<float> values = download(residual);
      for (const bf16 value : download(x)) values.push_back(to_f32(value));
      for (const Out value : download(out)) values.push_back(to_f32(value));
      return values;
    };
    EXPECT_EQ(run(true), run(false));
    EXPECT_EQ(download(arrived_), std::vector<unsigned>(21, 0u)) << "left for the next launch";
  }
  SplitWorkspace workspace() { return {sums_.get(), arrived_.get()}; }

  dev::Buffer<float> sums_{static_cast<std::size_t>(ring_workspace_sums(20))};
  dev::Buffer<unsigned> arrived_{std::vector<unsigned>(21, 0u)};
};

TEST_P(GemvRing, MultipliesHoweverStagesDivideAmongBlocks) {
  std::uint64_t seed = 300;
  for (const ProductShape& shape : {ProductShape{1, 16, 256},
                                    {1, 1, 256},
                                    {1, 50, 768},
                                    {2, 33, 2304},
                                    {3, 17, 4096},
                                    {8, 40, 1280},
                                    {8, 64, 2048},
                                    {5, 100, 512},
                                    {0, 5, 256}}) {
    expect_ring<Epilogue::kNone, bf16>(shape, ++seed);
    expect_ring<Epilogue::kNone, float>(shape, seed);
    expect_ring<Epilogue::kSiluMul, bf16>(shape, seed);
  }
}

TEST_P(GemvRing, ReadsXFromGlobalMemoryWhereItDoesNotFitBesideTheRing) {
  expect_ring<Epilogue::kNone, float>({8, 3, 14336}, 400);
  expect_ring<Epilogue::kSiluMul, bf16>({7, 2, 14336}, 401);
}

TEST_P(GemvRing, TakesWhatIsCopiedInWholeSixteens) {
  LinearArgs<bf16, float> args{.weight = {.dtype = GetParam(), .rows = 4}, .x_stride = 512, .num_tokens = 8};
  for (const int k : {8, 32, 128, 256, 264}) {
    args.weight.cols = k;
    const int unit = !is_quantized(GetParam()) ? 8 : GetParam() == DType::kQ4_1 ? 128 : 256;
    EXPECT_EQ(fits_gemv_ring(args), k % unit == 0) << k;
    if (k % unit == 0) expect_ring<Epilogue::kNone, float>({2, 18, k}, 500 + static_cast<std::uint64_t>(k));
  }
  args.num_tokens = 9;
  EXPECT_FALSE(fits_gemv_ring(args));
}

TEST_P(GemvRing, MakesWhatItMultipliesByANorm) {
  std::uint64_t seed = 900;
  for (const ProductShape& shape :
       {ProductShape{1, 20, 256}, {2, 9, 1280}, {3, 40, 2304}, {4, 17, 4608}, {1, 3, 8192}})
    for (const int num_blocks : {1, 3, 20}) {
      expect_normed<Epilogue::kNone, bf16>(shape, num_blocks, ++seed);
      expect_normed<Epilogue::kSiluMul, bf16>(shape, num_blocks, seed);
    }
  expect_normed<Epilogue::kNone, float>({2, 50, 768}, 3, ++seed);
}

// Each starts before the kernel that makes its x has run: dependent launches, in a row.
TEST_P(GemvRing, WaitsForWhatItMultiplies) {
  constexpr int kSize = 512, kTokens = 2;
  Random random(11);
  WeightsUnderTest weight(GetParam(), kSize, kSize, random, 0.1f);
  const dev::Buffer<bf16> x(random.normals<bf16>(kTokens * kSize));
  const auto multiply = [&](const bf16* from, bf16* to, dev::stream_t stream) {
    gemv_ring(LinearArgs<bf16, bf16>{.weight = weight.arrays(),
                                     .x = from,
                                     .x_stride = kSize,
                                     .out = to,
                                     .out_stride = kSize,
                                     .num_tokens = kTokens},
              workspace(), 3, stream);
  };
  const auto run = [&](dev::stream_t stream) {
    dev::Buffer<bf16> first(kTokens * kSize), second(kTokens * kSize), third(kTokens * kSize);
    multiply(x.get(), first.get(), stream);
    multiply(first.get(), second.get(), stream);
    multiply(second.get(), third.get(), stream);
    dev::sync();
    std::vector<float> values;
    for (const bf16 value : download(third)) values.push_back(to_f32(value));
    return values;
  };
  const std::vector<float> one_by_one = run({});
  const dev::stream_t stream = dev::create_stream();
  EXPECT_EQ(run(stream), one_by_one);
  dev::destroy_stream(stream);
}

INSTANTIATE_TEST_SUITE_P(Types, GemvRing,
                         testing::Values(DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace
}  // namespace redline::cuda::test
