#include "kernels/cuda/gemm_packed.cuh"

#include "tests/cuda/product.h"

namespace redline::cuda::test {
namespace {

class GemmPacked : public testing::TestWithParam<DType> {
 protected:
  template <Epilogue kEpilogue, class Out>
  void multiply(const LinearArgs<bf16, Out>& args, int num_multiprocessors) {
    ASSERT_TRUE(fits_gemm_packed(args));
    gemm_packed<kEpilogue>(args, {sums_.get(), arrived_.get()}, num_multiprocessors, {});
    EXPECT_EQ(download(arrived_), std::vector<unsigned>(6, 0u)) << "left for the next launch";
  }
  // With more and with fewer blocks than tiles, and a workspace used over and over.
  template <Epilogue kEpilogue, class Out>
  void expect_right(const ProductShape& shape, std::uint64_t seed) {
    for (const int num_multiprocessors : {1, 3}) {
      SCOPED_TRACE(testing::Message() << num_multiprocessors << " multiprocessors");
      expect_product<kEpilogue, bf16, Out>(GetParam(), shape, seed, [&](const LinearArgs<bf16, Out>& args) {
        multiply<kEpilogue>(args, num_multiprocessors);
      });
    }
  }

  dev::Buffer<float> sums_{static_cast<std::size_t>(packed_workspace_sums(3))};
  dev::Buffer<unsigned> arrived_{std::vector<unsigned>(6, 0u)};
};

TEST_P(GemmPacked, MultipliesOnAnyNumberOfBlocks) {
  std::uint64_t seed = 800;
  for (const ProductShape& any :
       {ProductShape{65, 20, 416}, {96, 270, 64}, {97, 1, 32}, {128, 40, 288}, {130, 7, 96}, {0, 5, 256}}) {
    const ProductShape shape = fitting(GetParam(), any);
    expect_right<Epilogue::kNone, bf16>(shape, ++seed);
    expect_right<Epilogue::kSiluMul, bf16>(shape, seed);
  }
  expect_right<Epilogue::kNone, float>(fitting(GetParam(), {70, 300, 160}), ++seed);
}

// A token's product is the same in every batch of more than 16 rows, whichever kernel multiplies it.
TEST_P(GemmPacked, GivesATokenTheProductThatSmallerBatchesGive) {
  constexpr int kRows = 600, kMostTokens = 128, kMultiprocessors = 3;
  const int cols = fitting_columns(GetParam(), 480);
  Random random(9);
  WeightsUnderTest weight(GetParam(), kRows, cols, random);
  dev::Buffer<bf16> x(random.normals<bf16>(std::int64_t{kMostTokens} * cols));
  const auto product = [&](int first, int count, auto&& multiply) {
    dev::Buffer<float> out(static_cast<std::size_t>(kRows * count));
    multiply(LinearArgs<bf16, float>{.weight = weight.arrays(),
                                     .x = x.get() + first * cols,
                                     .x_stride = cols,
                                     .out = out.get(),
                                     .out_stride = kRows,
                                     .num_tokens = count});
    return download(out);
  };
  const auto packed = [&](const LinearArgs<bf16, float>& args) {
    multiply<Epilogue::kNone>(args, kMultiprocessors);
  };
  const auto skinny = [&](const LinearArgs<bf16, float>& args) {
    gemm_skinny(args, {sums_.get(), arrived_.get()}, kMultiprocessors, {});
  };
  const std::vector<float> all = product(0, kMostTokens, packed);
  const auto expect_same = [&](int first, int count, auto&& multiply) {
    EXPECT_EQ(product(first, count, multiply),
              std::vector<float>(all.begin() + first * kRows, all.begin() + (first + count) * kRows))
        << count << " tokens from " << first;
  };
  expect_same(3, 70, packed);
  expect_same(7, 17, skinny);
  expect_same(60, 64, skinny);
}

INSTANTIATE_TEST_SUITE_P(Types, GemmPacked,
                         testing::Values(DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K,
                                         DType::kQ6_K),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace
}  // namespace redline::cuda::test
