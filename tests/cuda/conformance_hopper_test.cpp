// Conformance, as in conformance_test.cpp, of what Hopper has: mbarriers, bulk and tensor copies, wgmma.
#include "tests/cuda/conformance.h"

namespace redline::cuda {
namespace {

using namespace conformance;

using dev::Swizzle;

/// Skips the tests of this file on a device before sm_90.
class ConformanceOfHopper : public testing::Test {
 protected:
  void SetUp() override {
    if (dev::device_properties().compute_major < 9) GTEST_SKIP() << "needs sm_90";
  }
};

/// A ring of two stages, filled by one thread while 64 others read.
template <bool kOnce>
__global__ void bulk_ring(std::uint32_t* out, const uint4* data) {
  auto* const shared = dev::dynamic_smem<uint4>();
  DEV_SHARED(std::uint64_t, full, [2]);
  DEV_SHARED(std::uint64_t, empty, [2]);
  const unsigned t = threadIdx.x;
  if (t == 0) {
    for (int i = 0; i < 2; ++i) {
      dev::mbarrier_init(&full[i], 1);
      dev::mbarrier_init(&empty[i], 64);
    }
    dev::fence_mbarrier_init();
  }
  __syncthreads();
  constexpr unsigned kSteps = 7, kVectors = 64;
  if (t == 64) {
    for (unsigned i = 0; i < kSteps; ++i) {
      dev::mbarrier_wait_parity(&empty[i % 2], (i / 2 + 1) % 2);
      dev::mbarrier_arrive_expect_tx(&full[i % 2], kVectors * 16);
      const auto* const source = data + i * 3;
      if (kOnce) {
        dev::bulk_g2s_once(shared + i % 2 * kVectors, source, kVectors * 16, &full[i % 2]);
      } else {
        dev::bulk_g2s(shared + i % 2 * kVectors, source, kVectors * 16, &full[i % 2]);
      }
    }
  }
  if (t >= 64) return;
  std::uint32_t result = 0;
  for (unsigned i = 0; i < kSteps; ++i) {
    dev::mbarrier_wait_parity(&full[i % 2], i / 2 % 2);
    const uint4 v = shared[i % 2 * kVectors + (t ^ i)];
    result = mix(result ^ v.x ^ v.w << 3) + v.y;
    dev::mbarrier_arrive(&empty[i % 2]);
  }
  out[t] = result;
}
TEST_F(ConformanceOfHopper, BulkCopies) {
  dev::Buffer<uint4> data(numbered(82));
  for (const auto kernel : {bulk_ring<false>, bulk_ring<true>}) {
    expect_hash("23c90d6626c7e431", hash_of(64, [&](std::uint32_t* out) {
                  dev::launch(kernel, 1, 96, 2048, nullptr, out, static_cast<const uint4*>(data.get()));
                }));
  }
}

/// The image in shared memory of a box that lies partly outside its matrix.
template <Swizzle kSwizzle>
__global__ void tensor_copy(std::uint32_t* out, const __grid_constant__ dev::TensorMap2D map,
                            unsigned words) {
  auto* const shared = dev::dynamic_smem<std::uint32_t>();
  DEV_SHARED(std::uint64_t, full, [1]);
  if (threadIdx.x == 0) {
    dev::mbarrier_init(&full[0], 1);
    dev::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    dev::mbarrier_arrive_expect_tx(&full[0], words * 4);
    dev::tma_load_2d(shared, &map, 24, 40, &full[0]);
  }
  dev::mbarrier_wait_parity(&full[0], 0);
  for (unsigned i = threadIdx.x; i < words; i += blockDim.x) out[i] = shared[i];
}
template <Swizzle kSwizzle>
std::uint64_t tensor_copy_hash(std::uint32_t box_inner) {
  std::vector<std::uint16_t> values;
  for (unsigned i = 0; i < 64 * 64; ++i) values.push_back(static_cast<std::uint16_t>(i * 31 + 7));
  dev::Buffer<std::uint16_t> matrix(values);
  const unsigned words = box_inner * 32 / 2;
  return hash_of(words, [&](std::uint32_t* out) {
    const auto map = dev::make_tensor_map_2d(matrix.get(), 64, 60, 128, box_inner, 32, 2, kSwizzle);
    dev::launch(tensor_copy<kSwizzle>, 1, 128, words * 4, nullptr, out, map, words);
  });
}
TEST_F(ConformanceOfHopper, TensorCopies) {
  expect_hash("2f06e31a423a2e07", tensor_copy_hash<Swizzle::None>(64));
  expect_hash("cedcfeebf863c9e3", tensor_copy_hash<Swizzle::B128>(64));
  expect_hash("58ba303fcd32397b", tensor_copy_hash<Swizzle::B64>(32));
  expect_hash("5224199ec6451218", tensor_copy_hash<Swizzle::B32>(16));
}

template <Swizzle kSwizzle>
constexpr unsigned kSpanBytes = kSwizzle == Swizzle::None ? 16 : 256u >> static_cast<int>(kSwizzle);
constexpr unsigned kWgmmaBytes = 48 * 1024;
constexpr unsigned kOffsetOfB = 8192;

/// Operands are raw bytes of shared memory: what is hashed is the map from descriptors to addresses.
template <int kN, Swizzle kSwizzle>
__global__ void wgmma_k_major(std::uint32_t* out) {
  auto* const shared = dev::dynamic_smem<std::uint16_t>();
  fill_small(shared, kWgmmaBytes / 2);
  dev::fence_proxy_async();
  __syncthreads();
  constexpr unsigned kSpan = kSpanBytes<kSwizzle>;
  constexpr unsigned kStride = kSwizzle == Swizzle::None ? 256 : 8 * kSpan;
  const std::uint64_t a = dev::wgmma_desc(shared, 128, kStride, kSwizzle);
  const std::uint64_t b = dev::wgmma_desc(shared + kOffsetOfB / 2, 128, kStride, kSwizzle);
  float d[kN / 8][4];
  for (int i = 0; i < kN / 2; ++i) d[i / 4][i % 4] = static_cast<float>(i);
  dev::wgmma_fence();
  dev::wgmma_ss(d, a, b, true);
  for (unsigned k = 32; k < kSpan; k += 32) {
    dev::wgmma_ss(d, dev::wgmma_desc_advance(a, k), dev::wgmma_desc_advance(b, k), true);
  }
  dev::wgmma_commit();
  dev::wgmma_wait<0>();
  store(out, d);
}
template <int kN, Swizzle kSwizzle>
std::uint64_t wgmma_k_major_hash() {
  return hash_of(64 * kN, [](std::uint32_t* out) {
    dev::launch(wgmma_k_major<kN, kSwizzle>, 1, 128, kWgmmaBytes, nullptr, out);
  });
}
TEST_F(ConformanceOfHopper, WgmmaKMajor) {
  expect_hash("c566317442cd72d5", wgmma_k_major_hash<64, Swizzle::None>());
  expect_hash("5d5c6bd18310e76c", wgmma_k_major_hash<64, Swizzle::B128>());
  expect_hash("aa2af8784282a727", wgmma_k_major_hash<64, Swizzle::B64>());
  expect_hash("528e4867c90949de", wgmma_k_major_hash<64, Swizzle::B32>());
}
TEST_F(ConformanceOfHopper, WgmmaOfEveryWidth) {
  expect_hash("82936ca2af165e03", wgmma_k_major_hash<8, Swizzle::B128>());
  expect_hash("2a23ebc132f4aa91", wgmma_k_major_hash<16, Swizzle::B128>());
  expect_hash("e5ea2470e7fb8e98", wgmma_k_major_hash<32, Swizzle::B128>());
  expect_hash("13dd93f9c74c1c4e", wgmma_k_major_hash<96, Swizzle::B128>());
  expect_hash("984cefa14c9bedfa", wgmma_k_major_hash<128, Swizzle::B128>());
  expect_hash("0f1502bd8efa5e0e", wgmma_k_major_hash<256, Swizzle::B128>());
}

/// A from registers; B with its rows contiguous, in as many spans as it takes.
template <int kN, Swizzle kSwizzle>
__global__ void wgmma_transposed(std::uint32_t* out) {
  auto* const shared = dev::dynamic_smem<std::uint16_t>();
  fill_small(shared, kWgmmaBytes / 2);
  dev::fence_proxy_async();
  __syncthreads();
  constexpr unsigned kSpan = kSpanBytes<kSwizzle>;
  const std::uint64_t b = kSwizzle == Swizzle::None
                              ? dev::wgmma_desc(shared, 4096, 128, kSwizzle)
                              : dev::wgmma_desc(shared, 16 * kSpan, 8 * kSpan, kSwizzle);
  std::uint32_t a[4];
  for (unsigned i = 0; i < 4; ++i) a[i] = small_bf16_pair(30000 + threadIdx.x * 4 + i);
  float d[kN / 8][4];
  for (auto& column : d) column[0] = column[1] = column[2] = column[3] = 1e9f;
  dev::wgmma_fence();
  dev::wgmma_rs(d, a, b, false);
  dev::wgmma_commit();
  dev::wgmma_wait<0>();
  store(out, d);
}
template <int kN, Swizzle kSwizzle>
std::uint64_t wgmma_transposed_hash() {
  return hash_of(64 * kN, [](std::uint32_t* out) {
    dev::launch(wgmma_transposed<kN, kSwizzle>, 1, 128, kWgmmaBytes, nullptr, out);
  });
}
TEST_F(ConformanceOfHopper, WgmmaTransposedWithAInRegisters) {
  expect_hash("7e9281ac128f00fa", wgmma_transposed_hash<64, Swizzle::None>());
  expect_hash("3c6e79f74e775cef", wgmma_transposed_hash<64, Swizzle::B128>());
  expect_hash("e4acbda124c1c383", wgmma_transposed_hash<64, Swizzle::B64>());
  expect_hash("c11adf6badd7fd10", wgmma_transposed_hash<64, Swizzle::B32>());
  expect_hash("655859ecb87a4cc1", wgmma_transposed_hash<128, Swizzle::B128>());
  expect_hash("1ddcaf0038f01e25", wgmma_transposed_hash<256, Swizzle::B64>());
}

/// Two groups in flight: the first is waited for while the second runs.
__global__ void wgmma_groups(std::uint32_t* out) {
  auto* const shared = dev::dynamic_smem<std::uint16_t>();
  fill_small(shared, kWgmmaBytes / 2);
  dev::fence_proxy_async();
  __syncthreads();
  const std::uint64_t a = dev::wgmma_desc(shared, 16, 1024, Swizzle::B128);
  const std::uint64_t b = dev::wgmma_desc(shared + kOffsetOfB / 2, 16, 1024, Swizzle::B128);
  float first[2][4], second[2][4];
  dev::wgmma_fence();
  dev::wgmma_ss(first, a, b, false);
  dev::wgmma_commit();
  dev::wgmma_ss(second, dev::wgmma_desc_advance(a, 32), b, false);
  dev::wgmma_commit();
  dev::wgmma_wait<1>();
  float sum[8];
  for (int i = 0; i < 8; ++i) sum[i] = first[i / 4][i % 4] * 3;
  dev::wgmma_wait<0>();
  for (int i = 0; i < 8; ++i) sum[i] += second[i / 4][i % 4];
  store(out, sum);
}
TEST_F(ConformanceOfHopper, WgmmaGroups) {
  expect_hash("2c84a8ed88fd8678", hash_of(1024, [](std::uint32_t* out) {
                dev::launch(wgmma_groups, 1, 128, kWgmmaBytes, nullptr, out);
              }));
}

}  // namespace
}  // namespace redline::cuda
