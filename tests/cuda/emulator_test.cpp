// Does the emulator notice? Each kernel here is wrong on purpose, or right where a wrong one is its
// neighbour.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace redline::cuda {
namespace {

constexpr unsigned kFull = 0xffffffffu;

/// What running it reports; "no error" if nothing.
template <class F>
std::string report(F run) {
  try {
    run();
  } catch (const emulation::Error& error) {
    return error.what();
  }
  return "no error";
}

template <class... Parameters, class... Arguments>
std::string launched(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                     std::size_t shared_bytes, Arguments... arguments) {
  return report([&] {
    dev::launch(kernel, dim3(blocks), dim3(threads), shared_bytes, nullptr, arguments...);
    dev::sync();
  });
}

#define EXPECT_REPORT(words, ...) \
  EXPECT_NE(launched(__VA_ARGS__).find(words), std::string::npos) << launched(__VA_ARGS__)

int thread() { return static_cast<int>(threadIdx.x); }

// Barriers --------------------------------------------------------------------------------------------------

__global__ void mismatched_barriers() {
  if (threadIdx.x < 48) {
    __syncthreads();
  } else {
    dev::bar_sync(1, 64);
  }
}
TEST(Emulator, SaysWhoWaitsWhereInADeadlock) {
  EXPECT_REPORT("threads 0..47: barrier 0", mismatched_barriers, 1, 96, 0);
}

__global__ void exit_before_barrier() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
TEST(Emulator, NoticesAThreadThatLeavesBeforeABarrier) {
  EXPECT_REPORT("exited", exit_before_barrier, 1, 64, 0);
}

__global__ void two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
TEST(Emulator, NoticesADivergentBarrier) { EXPECT_REPORT("divergent __syncthreads", two_barriers, 1, 64, 0); }

__global__ void count_below(int limit, int* out) { out[thread()] = __syncthreads_count(thread() < limit); }
TEST(Emulator, CountsAtABarrier) {
  dev::Buffer<int> out(96);
  EXPECT_EQ(launched(count_below, 1, 96, 0, 37, out.get()), "no error");
  EXPECT_EQ(out.download(), std::vector<int>(96, 37));
}

// Warps -----------------------------------------------------------------------------------------------------

__global__ void different_shuffles(int* out) {
  int v = thread();
  if (threadIdx.x % 2) {
    v = __shfl_xor_sync(kFull, v, 1);
  } else {
    v = __shfl_down_sync(kFull, v, 1);
  }
  out[thread()] = v;
}
__global__ void shuffle_without_half(int* out) {
  int v = thread();
  if (threadIdx.x < 16) v = __shfl_xor_sync(kFull, v, 1);
  out[thread()] = v;
}
__global__ void shuffle_from_outside(int* out) {
  int v = thread();
  if (threadIdx.x < 16) v = __shfl_xor_sync(0xffffu, v, 16);
  out[thread()] = v;
}
__global__ void half_masks(int* out) {
  int v = thread();
  if (threadIdx.x < 16) {
    v = __shfl_xor_sync(0x0000ffffu, v, 1);
  } else {
    v = __shfl_xor_sync(0xffff0000u, v, 2);
  }
  out[thread()] = v;
}
TEST(Emulator, NoticesDifferentShufflesUnderOneMask) {
  dev::Buffer<int> out(32);
  EXPECT_REPORT("warp divergence", different_shuffles, 1, 32, 0, out.get());
}
TEST(Emulator, NoticesAMaskThatNamesAbsentLanes) {
  dev::Buffer<int> out(32);
  EXPECT_REPORT("exited", shuffle_without_half, 1, 32, 0, out.get());
}
TEST(Emulator, NoticesAShuffleFromOutsideTheMask) {
  dev::Buffer<int> out(32);
  EXPECT_REPORT("outside the mask", shuffle_from_outside, 1, 32, 0, out.get());
}
TEST(Emulator, RunsDisjointMasksApart) {
  dev::Buffer<int> out(32);
  EXPECT_EQ(launched(half_masks, 1, 32, 0, out.get()), "no error");
  EXPECT_EQ(out.download()[3], 2);
  EXPECT_EQ(out.download()[17], 19);
}

// Memory ----------------------------------------------------------------------------------------------------

__global__ void write_past_dynamic() { dev::dynamic_smem<volatile int>()[thread() + 1] = 1; }
__global__ void write_past_static(int offset) {
  DEV_SHARED(int, values, [32]);
  volatile int* p = values;
  p[thread() + offset] = 1;
}
TEST(Emulator, LimitsSharedMemory) { EXPECT_REPORT("over the limit", write_past_dynamic, 1, 32, 228 * 1024); }
TEST(Emulator, NoticesAWritePastSharedMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer, which guards shared memory here, ends the process";
#endif
  EXPECT_REPORT("out of bounds", write_past_dynamic, 1, 32, 128);
  EXPECT_REPORT("out of bounds", write_past_static, 1, 32, 0, 1);
  EXPECT_EQ(launched(write_past_static, 1, 32, 0, 0), "no error");
}

__global__ void read_misaligned(const char* data, int* out) {
  out[thread()] = static_cast<int>(dev::ld_v4(data + 16 * thread() + 8).x);
}
TEST(Emulator, NoticesAMisalignedVectorAccess) {
  dev::Buffer<int> out(32), data(std::vector<int>(256, 1));
  EXPECT_REPORT("misaligned", read_misaligned, 1, 32, 0, reinterpret_cast<const char*>(data.get()),
                out.get());
}

__global__ void load_matrix_from_global(const uint4* data) {
  std::uint32_t fragment[4];
  dev::ldmatrix_x4(fragment, data + thread());
}
TEST(Emulator, NoticesAMatrixLoadFromGlobalMemory) {
  dev::Buffer<uint4> data(32);
  EXPECT_REPORT("outside shared", load_matrix_from_global, 1, 32, 512, static_cast<const uint4*>(data.get()));
}

// Asynchronous copies ---------------------------------------------------------------------------------------

__global__ void leave_with_a_copy(const uint4* data) {
  dev::cp_async_16(dev::dynamic_smem<uint4>() + thread(), data + thread());
  dev::cp_async_commit();
}
__global__ void copy_misaligned(const char* data) {
  dev::cp_async_16(dev::dynamic_smem<char>() + thread() * 16, data + 8 + thread() * 16);
  dev::cp_async_wait<0>();
}
__global__ void read_before_waiting(const uint4* data, unsigned* out) {
  uint4* const shared = dev::dynamic_smem<uint4>();
  dev::cp_async_16(shared + thread(), data + thread());
  dev::cp_async_commit();
  out[thread()] = shared[thread()].x;
  dev::cp_async_wait<0>();
}
TEST(Emulator, NoticesACopyNeverWaitedFor) {
  dev::Buffer<uint4> data(std::vector<uint4>(64, uint4{1, 2, 3, 4}));
  EXPECT_REPORT("still outstanding", leave_with_a_copy, 1, 32, 512, static_cast<const uint4*>(data.get()));
}
TEST(Emulator, NoticesAMisalignedCopy) {
  dev::Buffer<uint4> data(std::vector<uint4>(64, uint4{1, 2, 3, 4}));
  EXPECT_REPORT("not 16-byte aligned", copy_misaligned, 1, 32, 512,
                reinterpret_cast<const char*>(data.get()));
}
TEST(Emulator, LandsCopiesAsLateAsItMay) {
  if (emulation::config().landing != emulation::Landing::kLazy) GTEST_SKIP() << "EMU_ASYNC is not lazy";
  dev::Buffer<uint4> data(std::vector<uint4>(64, uint4{1, 2, 3, 4}));
  dev::Buffer<unsigned> out(32);
  const std::string got =
      launched(read_before_waiting, 1, 32, 512, static_cast<const uint4*>(data.get()), out.get());
  if (emulation::race_check_enabled()) {
    EXPECT_NE(got.find("before it was waited for"), std::string::npos) << got;
  } else {
    EXPECT_EQ(out.download(), std::vector<unsigned>(32, 0xffffffffu));
  }
}

__global__ void arrive_uninitialised() {
  DEV_SHARED(std::uint64_t, barrier, [1]);
  dev::mbarrier_arrive(&barrier[0]);
}
__global__ void wait_for_one_too_many() {
  DEV_SHARED(std::uint64_t, barrier, [1]);
  if (threadIdx.x == 0) dev::mbarrier_init(&barrier[0], 33);
  __syncthreads();
  dev::mbarrier_arrive(&barrier[0]);
  dev::mbarrier_wait_parity(&barrier[0], 0);
}
__global__ void bulk_copy(const char* data, unsigned expected_bytes, bool waits, unsigned* out) {
  DEV_SHARED(std::uint64_t, barrier, [1]);
  char* const shared = dev::dynamic_smem<char>();
  if (threadIdx.x == 0) {
    dev::mbarrier_init(&barrier[0], 1);
    dev::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    dev::mbarrier_arrive_expect_tx(&barrier[0], expected_bytes);
    dev::bulk_g2s(shared, data, 128, &barrier[0]);
  }
  if (waits) dev::mbarrier_wait_parity(&barrier[0], 0);
  if (waits) out[thread()] = reinterpret_cast<const unsigned*>(shared)[thread()];
}
TEST(Emulator, NoticesAnUninitialisedMbarrier) {
  EXPECT_REPORT("not initialised", arrive_uninitialised, 1, 32, 0);
}
TEST(Emulator, NoticesAnMbarrierThatNeverCompletes) {
  EXPECT_REPORT("mbarrier wait", wait_for_one_too_many, 1, 32, 0);
}
TEST(Emulator, NoticesAWrongCountOfBytes) {
  dev::Buffer<unsigned> data(std::vector<unsigned>(32, 7)), out(32);
  const auto* const source = reinterpret_cast<const char*>(data.get());
  EXPECT_EQ(launched(bulk_copy, 1, 32, 128, source, 128u, true, out.get()), "no error");
  EXPECT_EQ(out.download(), std::vector<unsigned>(32, 7));
  EXPECT_REPORT("mbarrier wait", bulk_copy, 1, 32, 128, source, 256u, true, out.get());
  EXPECT_REPORT("bulk copies in flight", bulk_copy, 1, 32, 128, source, 128u, false, out.get());
}

// What only the race check sees under every schedule
// ----------------------------------------------------------

__global__ void exchange(bool ordered, int* out) {
  DEV_SHARED(int, values, [32]);
  values[thread()] = thread();
  if (ordered) {
    __syncwarp();
  } else {
    (void)__shfl_sync(kFull, 0, 0);  // orders nothing
  }
  out[thread()] = values[31 - thread()];
}
__global__ void every_block_writes(int* out) {
  if (threadIdx.x == 0) out[0] = static_cast<int>(blockIdx.x);
}
__global__ void every_block_adds(int* out) {
  if (threadIdx.x == 0) atomicAdd(&out[0], 1);
}
__global__ void last_block_sums(int* parts, unsigned* counter, int* out) {
  DEV_SHARED(bool, last, [1]);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = static_cast<int>(blockIdx.x);
    __threadfence();
    last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last[0] || threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *out = sum;
}
__global__ void copy_ints(const int* in, int* out) { out[thread()] = in[thread()]; }

class RaceCheck : public testing::Test {
 protected:
  void SetUp() override {
    if (!emulation::race_check_enabled())
      GTEST_SKIP() << "this program's kernels are not compiled for the race check";
  }
  dev::Buffer<int> out{std::vector<int>(64, 0), "out"};
};
TEST_F(RaceCheck, NoticesAMissingSyncwarp) {
  EXPECT_REPORT("read-after-write race on shared", exchange, 1, 32, 0, false, out.get());
  EXPECT_REPORT("emulator_test.cpp", exchange, 1, 32, 0, false, out.get());
  EXPECT_EQ(launched(exchange, 1, 32, 0, true, out.get()), "no error");
}
TEST_F(RaceCheck, NoticesBlocksThatWriteTheSameWord) {
  EXPECT_REPORT("write-write race on global buffer 'out'", every_block_writes, 3, 32, 0, out.get());
  EXPECT_EQ(launched(every_block_adds, 4, 32, 0, out.get()), "no error");
}
TEST_F(RaceCheck, NoticesReadsOfWhatNoOneWrote) {
  dev::Buffer<int> unwritten(32, 0xff, "unwritten");
  EXPECT_REPORT("uninitialised global memory 'unwritten'", copy_ints, 1, 32, 0,
                static_cast<const int*>(unwritten.get()), out.get());
}
TEST_F(RaceCheck, NoticesAnAccessPastABuffer) {
  dev::Buffer<int> small(std::vector<int>(31, 1), "small");
  EXPECT_REPORT("", copy_ints, 1, 32, 0, static_cast<const int*>(small.get()), out.get());
}

TEST(Emulator, RunsAReductionByTheLastBlock) {
  dev::Buffer<int> parts(6), out(1);
  dev::Buffer<unsigned> counter(std::vector<unsigned>(1, 0));
  EXPECT_EQ(launched(last_block_sums, 6, 32, 0, parts.get(), counter.get(), out.get()), "no error");
  EXPECT_EQ(out.download()[0], 15);
}

// Dependent launches ----------------------------------------------------------------------------------------

__global__ void set_to(int* value, int to) { *value = to; }
// before: what is there as it starts; after: once it has waited.
__global__ void read_around_the_wait(const int* value, int* before, int* after) {
  if (blockIdx.x == 0) *before = *value;
  if (after == nullptr) return;
  dev::wait_for_prior_kernels();
  *after = *value;
}
class DependentLaunch : public testing::Test {
 protected:
  void SetUp() override {
    if (emulation::race_check_enabled()) GTEST_SKIP() << "the race check sees launches in order";
    if (emulation::config().landing != emulation::Landing::kLazy)
      GTEST_SKIP() << "nothing is left to start before";
  }
  void TearDown() override { dev::destroy_stream(stream); }
  void give_work(int* seen) {
    dev::launch(set_to, dim3(1), dim3(1), 0, stream, value.get(), 7);
    dev::launch_dependent(read_around_the_wait, dim3(2), dim3(1), 0, stream,
                          static_cast<const int*>(value.get()), before.get(), seen);
  }
  dev::stream_t stream = dev::create_stream();
  dev::Buffer<int> value{std::vector<int>(1, 3)}, before{1}, after{1};
};
TEST_F(RaceCheck, NoticesADependentKernelThatDoesNotWait) {
  dev::Buffer<int> value(1), before(1);
  const std::string said = report([&] {
    dev::launch(set_to, dim3(1), dim3(1), 0, nullptr, value.get(), 7);
    dev::launch_dependent(read_around_the_wait, dim3(1), dim3(1), 0, nullptr,
                          static_cast<const int*>(value.get()), before.get(), static_cast<int*>(nullptr));
  });
  EXPECT_NE(said.find("of a kernel before"), std::string::npos) << said;
}
TEST_F(DependentLaunch, StartsBeforeTheKernelThatItWaitsFor) {
  give_work(after.get());
  dev::synchronize(stream);
  EXPECT_EQ(before.download()[0], 3) << "read too early";
  EXPECT_EQ(after.download()[0], 7);
}
TEST_F(DependentLaunch, DoesInAGraphToo) {
  dev::begin_capture(stream);
  give_work(after.get());
  const dev::graph_t graph = dev::end_capture(stream);
  EXPECT_EQ(dev::num_nodes(graph), 2u);
  dev::launch_graph(graph, stream);
  dev::synchronize(stream);
  dev::destroy_graph(graph);
  EXPECT_EQ(before.download()[0], 3);
  EXPECT_EQ(after.download()[0], 7);
}
TEST_F(DependentLaunch, MustWait) {
  give_work(nullptr);
  std::string said;
  try {
    dev::synchronize(stream);
  } catch (const std::exception& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("ended without wait_for_prior_kernels"), std::string::npos) << said;
  emulation::reset_device();
}

TEST(Emulator, RunsOnAfterAFailedLaunch) {
  dev::Buffer<int> out(96);
  EXPECT_REPORT("deadlock", mismatched_barriers, 1, 96, 0);
  EXPECT_EQ(launched(count_below, 1, 96, 0, 5, out.get()), "no error");
  EXPECT_EQ(out.download(), std::vector<int>(96, 5));
}

}  // namespace
}  // namespace redline::cuda
