#include "kernels/cuda/gemm_skinny_wgmma.cuh"

#include "kernels/cuda/runtime.h"
#include "tests/cuda/product.h"

namespace redline::cuda::test {
namespace {

/// Another device than Hopper has no wgmma.
bool runs_here() {
  if (dev::kEmulated) return true;
  const dev::DeviceProperties device = dev::device_properties();
  return device.compute_major == 9 && device.compute_minor == 0;
}

class GemmSkinnyWgmma : public testing::Test {
 protected:
  // With more and with fewer blocks than tiles, and a workspace used over and over.
  template <Epilogue kEpilogue, class Out>
  void expect_right(const ProductShape& shape, std::uint64_t seed) {
    if (!runs_here()) return;
    for (const int num_multiprocessors : {1, 3}) {
      SCOPED_TRACE(testing::Message() << num_multiprocessors << " multiprocessors");
      expect_product<kEpilogue, bf16, Out>(DType::kBF16, shape, seed, [&](const LinearArgs<bf16, Out>& args) {
        ASSERT_TRUE(fits_gemm_skinny_wgmma(args));
        gemm_skinny_wgmma<kEpilogue>(args, {sums_.get(), arrived_.get()}, num_multiprocessors, {});
      });
      EXPECT_EQ(download(arrived_), std::vector<unsigned>(3, 0u)) << "left for the next launch";
    }
  }

  dev::Buffer<float> sums_{static_cast<std::size_t>(wide_workspace_sums(3))};
  dev::Buffer<unsigned> arrived_{std::vector<unsigned>(3, 0u)};
};

TEST_F(GemmSkinnyWgmma, MultipliesHoweverStagesDivideAmongBlocks) {
  std::uint64_t seed = 700;
  for (const ProductShape& shape : {ProductShape{1, 16, 32},
                                    {5, 130, 72},
                                    {9, 1, 8},
                                    {17, 270, 640},
                                    {33, 65, 136},
                                    {64, 100, 1096},
                                    {65, 20, 200},
                                    {128, 129, 64},
                                    {130, 7, 72},
                                    {0, 5, 64}}) {
    expect_right<Epilogue::kNone, bf16>(shape, ++seed);
    expect_right<Epilogue::kSiluMul, bf16>(shape, seed);
  }
  expect_right<Epilogue::kNone, float>({40, 200, 576}, ++seed);
}

TEST_F(GemmSkinnyWgmma, TakesBf16OfAlignedRowsAlone) {
  const LinearArgs<bf16, bf16> good{.weight = {.dtype = DType::kBF16, .rows = 8, .cols = 64}, .x_stride = 64};
  EXPECT_TRUE(fits_gemm_skinny_wgmma(good));
  LinearArgs<bf16, bf16> args = good;
  args.weight.dtype = DType::kF16;
  EXPECT_FALSE(fits_gemm_skinny_wgmma(args));
  args = good;
  args.weight.cols = 60;
  EXPECT_FALSE(fits_gemm_skinny_wgmma(args));
  args = good;
  args.x_stride = 65;
  EXPECT_FALSE(fits_gemm_skinny_wgmma(args));
}

}  // namespace
}  // namespace redline::cuda::test
