#include "kernels/cuda/gemm_skinny.cuh"

#include "tests/cuda/product.h"

namespace redline::cuda::test {
namespace {

class GemmSkinny : public testing::TestWithParam<DType> {
 protected:
  // With more and with fewer blocks than tiles, and a workspace used over and over.
  template <Epilogue kEpilogue, class Out>
  void expect_skinny(const ProductShape& shape, std::uint64_t seed) {
    for (const int num_multiprocessors : {1, 3}) {
      SCOPED_TRACE(testing::Message() << num_multiprocessors << " multiprocessors");
      expect_product<kEpilogue, bf16, Out>(GetParam(), shape, seed, [&](const LinearArgs<bf16, Out>& args) {
        ASSERT_TRUE(fits_gemm_skinny(args));
        gemm_skinny<kEpilogue>(args, {sums_.get(), arrived_.get()}, num_multiprocessors, {});
      });
      EXPECT_EQ(download(arrived_), std::vector<unsigned>(6, 0u)) << "left for the next launch";
    }
  }

  dev::Buffer<float> sums_{static_cast<std::size_t>(skinny_workspace_sums(3))};
  dev::Buffer<unsigned> arrived_{std::vector<unsigned>(6, 0u)};
};

TEST_P(GemmSkinny, MultipliesHoweverStagesDivideAmongBlocks) {
  std::uint64_t seed = 600;
  for (const ProductShape& any : {ProductShape{1, 16, 32},
                                  {9, 1, 96},
                                  {16, 130, 576},
                                  {17, 270, 64},
                                  {32, 40, 1056},
                                  {33, 257, 64},
                                  {64, 100, 288},
                                  {65, 20, 416},
                                  {130, 7, 64},
                                  {0, 5, 256}}) {
    const ProductShape shape = fitting(GetParam(), any);
    expect_skinny<Epilogue::kNone, bf16>(shape, ++seed);
    expect_skinny<Epilogue::kNone, float>(shape, seed);
    expect_skinny<Epilogue::kSiluMul, bf16>(shape, seed);
  }
  if (!is_quantized(GetParam())) expect_skinny<Epilogue::kNone, float>({20, 50, 8}, ++seed);
  if (!is_quantized(GetParam())) expect_skinny<Epilogue::kNone, float>({40, 50, 136}, ++seed);
}

INSTANTIATE_TEST_SUITE_P(Types, GemmSkinny,
                         testing::Values(DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                                         DType::kQ4_K, DType::kQ6_K),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace
}  // namespace redline::cuda::test
