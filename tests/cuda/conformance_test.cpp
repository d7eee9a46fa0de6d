// Every primitive that kernels lean on, on fixed inputs, against one hash each. The hashes were made by the
// emulation; the same program on a GPU must give the same, or the emulation misreads the ISA. Inputs to sums
// are small integers, so that every sum is exact and its order cannot matter. What a GPU only approximates
// (ex2, __expf) is left out.
#include "tests/cuda/conformance.h"

namespace redline::cuda {
namespace {

using namespace conformance;

// Warps -----------------------------------------------------------------------------------------------------

__global__ void shuffles(std::uint32_t* out) {
  const unsigned t = threadIdx.x;
  const std::uint32_t v = mix(t);
  std::uint32_t result = 0, step = 0;
  const auto put = [&](std::uint32_t x) { result = mix(result ^ x) + step++; };
  put(__shfl_sync(kFull, v, 5));
  put(__shfl_sync(kFull, v, static_cast<int>(t * 7), 8));
  put(__shfl_up_sync(kFull, v, 3));
  put(__shfl_up_sync(kFull, v, 3, 16));
  put(__shfl_down_sync(kFull, v, 9));
  put(__shfl_down_sync(kFull, v, 3, 8));
  put(__shfl_xor_sync(kFull, v, 21));
  put(__shfl_xor_sync(kFull, v, 1, 4));
  put(__shfl_xor_sync(kFull, v, 5, 4));
  put(__ballot_sync(kFull, v & 1));
  put(static_cast<std::uint32_t>(__any_sync(kFull, t == 3)));
  put(static_cast<std::uint32_t>(__all_sync(kFull, t < 31)));
  out[t] = result;
}
TEST(Conformance, Shuffles) {
  expect_hash("fa2fa4061130981b",
              hash_of(32, [](std::uint32_t* out) { dev::launch(shuffles, 1, 32, 0, nullptr, out); }));
}

__global__ void reductions(std::uint32_t* out) {
  const unsigned t = threadIdx.x;
  const std::uint32_t v = mix(t);
  std::uint32_t result = 0, step = 0;
  const auto put = [&](std::uint32_t x) { result = mix(result ^ x) + step++; };
  put(__reduce_add_sync(kFull, v));
  put(__reduce_max_sync(kFull, v));
  put(__reduce_min_sync(kFull, v));
  put(static_cast<std::uint32_t>(__reduce_max_sync(kFull, static_cast<int>(v))));
  put(static_cast<std::uint32_t>(__reduce_min_sync(kFull, static_cast<int>(v))));
  put(__reduce_and_sync(kFull, v | 0xfffff));
  put(__reduce_or_sync(kFull, v & 0x11111));
  put(__reduce_xor_sync(kFull, v));
  out[t] = result;
}
TEST(Conformance, WarpReductions) {
  expect_hash("f0412f732cf652c5",
              hash_of(32, [](std::uint32_t* out) { dev::launch(reductions, 1, 32, 0, nullptr, out); }));
}

__global__ void intrinsics(std::uint32_t* out) {
  const std::uint32_t v = mix(threadIdx.x), w = mix(v);
  std::uint32_t result = 0, step = 0;
  const auto put = [&](std::uint32_t x) { result = mix(result ^ x) + step++; };
  put(__byte_perm(v, w, 0x6b41));
  put(__byte_perm(v, w, w & 0x7777));
  put(static_cast<std::uint32_t>(__dp4a(static_cast<int>(v), static_cast<int>(w), 5)));
  put(__brev(v));
  put(static_cast<std::uint32_t>(__clz(static_cast<int>(v >> (w & 31)))));
  put(static_cast<std::uint32_t>(__ffs(static_cast<int>(v << (w & 31)))));
  put(static_cast<std::uint32_t>(__popc(v)));
  put(__umulhi(v, w));
  put(static_cast<std::uint32_t>(__float2int_rn(static_cast<float>(static_cast<int>(v)) * 0x1p-8f)));
  put(__float_as_uint(__fmaf_rn(static_cast<float>(v), 0x1.234568p-20f, static_cast<float>(w))));
  out[threadIdx.x] = result;
}
TEST(Conformance, Intrinsics) {
  expect_hash("140f65f15e048b38",
              hash_of(256, [](std::uint32_t* out) { dev::launch(intrinsics, 1, 256, 0, nullptr, out); }));
}

template <class T>
DEV_INLINE std::uint32_t bits16(T value) {
  std::uint16_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
/// Every sign and exponent, with ties, NaN and infinities among them.
__global__ void conversions(std::uint32_t* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t mantissas[8] = {0, 1, 0x7fff, 0x8000, 0x8001, 0x18000, 0x7fffff, mix(i) & 0x7fffff};
  std::uint32_t result = 0;
  for (const std::uint32_t mantissa : mantissas) {
    const float x = __uint_as_float(i << 23 | mantissa);
    result = mix(result ^ bits16(__float2bfloat16(x)));
    result = mix(result ^ bits16(__float2half(x)));
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, -x);
    result = mix(result ^ bits16(pair.x) ^ bits16(pair.y) << 16);
  }
  out[i] = result;
}
TEST(Conformance, Conversions) {
  expect_hash("18d12b9512e08d79",
              hash_of(512, [](std::uint32_t* out) { dev::launch(conversions, 2, 256, 0, nullptr, out); }));
}

// Blocks ----------------------------------------------------------------------------------------------------

__global__ void barriers(std::uint32_t* out) {
  DEV_SHARED(std::uint32_t, values, [128]);
  const unsigned t = threadIdx.x;
  const int below = __syncthreads_count(mix(t) % 3 == 0);
  const int any = __syncthreads_or(t == 77), all = __syncthreads_and(t != 5);
  if (t >= 64) {  // producers
    values[t] = mix(t);
    __threadfence_block();
    dev::bar_arrive(1, 128);
  } else {
    dev::bar_sync(1, 128);
    values[t] = values[t + 64] + 1;
  }
  __syncthreads();
  out[t] = values[127 - t] + static_cast<std::uint32_t>(below * 4 + any * 2 + all);
}
TEST(Conformance, Barriers) {
  expect_hash("97aaaf15cfad080a",
              hash_of(128, [](std::uint32_t* out) { dev::launch(barriers, 1, 128, 0, nullptr, out); }));
}

__global__ void atomics(std::uint32_t* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t v = mix(i);
  atomicAdd(&out[0], v);
  atomicMax(&out[1], v);
  atomicMin(&out[2], ~v);
  atomicOr(&out[3], 1u << (v & 31));
  atomicXor(&out[4], v);
  atomicInc(&out[5], 1u << 20);
  atomicAdd(reinterpret_cast<float*>(&out[6]), static_cast<float>(v % 100));
  atomicMax(reinterpret_cast<int*>(&out[7]), static_cast<int>(v));
  atomicCAS(&out[8 + i], 0u, v);
  atomicCAS(&out[8 + i], 0u, 5u);  // no longer 0
  atomicAdd(&out[9 + i], 0u);
}
TEST(Conformance, Atomics) {
  expect_hash("523ed9ce84a2140c",
              hash_of(8 + 769, [](std::uint32_t* out) { dev::launch(atomics, 3, 256, 0, nullptr, out); }));
}

/// Each block publishes a part; the last to arrive adds them up.
__global__ void last_block(std::uint32_t* out) {
  DEV_SHARED(bool, last, [1]);
  std::uint32_t* const parts = out + 2;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = mix(blockIdx.x);
    __threadfence();
    last[0] = atomicAdd(&out[0], 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last[0] || threadIdx.x != 0) return;
  std::uint32_t sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += __ldcg(&parts[i]);
  dev::st_release(&out[1], sum);
  out[2 + gridDim.x] = dev::ld_acquire(&out[1]);
}
TEST(Conformance, LastBlock) {
  expect_hash("2a4de3f4b3859997",
              hash_of(43, [](std::uint32_t* out) { dev::launch(last_block, 40, 64, 0, nullptr, out); }));
}

// Ampere ----------------------------------------------------------------------------------------------------

__global__ void matrix_loads(std::uint32_t* out) {
  auto* const shared = dev::dynamic_smem<std::uint16_t>();
  for (unsigned i = threadIdx.x; i < 2048; i += 32) shared[i] = static_cast<std::uint16_t>(mix(i));
  __syncwarp();
  const auto row = [&](unsigned salt) { return shared + mix(threadIdx.x + salt) % 256 * 8; };
  std::uint32_t r[12], four[4], two[2];
  dev::ldmatrix_x4(four, row(0));
  for (int i = 0; i < 4; ++i) r[i] = four[i];
  dev::ldmatrix_x4_trans(four, row(99));
  for (int i = 0; i < 4; ++i) r[4 + i] = four[i];
  dev::ldmatrix_x2(two, row(7));
  for (int i = 0; i < 2; ++i) r[8 + i] = two[i];
  dev::ldmatrix_x2_trans(two, row(8));
  for (int i = 0; i < 2; ++i) r[10 + i] = two[i];
  for (unsigned i = 0; i < 12; ++i) out[threadIdx.x * 12 + i] = r[i];
}
TEST(Conformance, MatrixLoads) {
  expect_hash("2184941d6cd51e63",
              hash_of(384, [](std::uint32_t* out) { dev::launch(matrix_loads, 1, 32, 4096, nullptr, out); }));
}

__global__ void mma(std::uint32_t* out) {
  const unsigned t = threadIdx.x;
  std::uint32_t a[4];
  float d[4];
  for (unsigned i = 0; i < 4; ++i) {
    a[i] = small_bf16_pair(t * 4 + i);
    d[i] = static_cast<float>(t * 4 + i);
  }
  dev::mma_bf16_16816(d, a, small_bf16_pair(1000 + t), small_bf16_pair(2000 + t));
  store(out, d);
}
TEST(Conformance, Mma) {
  expect_hash("1f0d0c4f53c1a41d",
              hash_of(128, [](std::uint32_t* out) { dev::launch(mma, 1, 32, 0, nullptr, out); }));
}

__global__ void async_copies(std::uint32_t* out, const uint4* data) {
  auto* const shared = dev::dynamic_smem<uint4>();
  const unsigned t = threadIdx.x;
  dev::cp_async_16_zfill(shared + (t ^ 5), data + t, t % 3 != 0);
  dev::cp_async_commit();
  dev::cp_async_16(shared + 64 + t, data + 63 - t);
  dev::cp_async_commit();
  dev::cp_async_wait<1>();
  __syncthreads();
  const uint4 first = shared[t];
  dev::cp_async_wait<0>();
  __syncthreads();
  const uint4 second = shared[64 + (t ^ 9)];
  out[t] = mix(first.x) ^ mix(first.y + 1) ^ mix(first.z + 2) ^ mix(first.w + 3) ^ mix(second.x + second.w);
}
TEST(Conformance, AsyncCopies) {
  dev::Buffer<uint4> data(numbered(64));
  expect_hash("b632f7d6d254a54c", hash_of(64, [&](std::uint32_t* out) {
                dev::launch(async_copies, 1, 64, 2048, nullptr, out, static_cast<const uint4*>(data.get()));
              }));
}

}  // namespace
}  // namespace redline::cuda
