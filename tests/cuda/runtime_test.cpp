// The host's calls: the same claims of the emulated device and of a GPU, then what only the emulation can
// notice.
#include "kernels/cuda/runtime.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace redline::cuda {
namespace {

constexpr int kCount = 300;  // more than a block's threads
constexpr std::size_t kBytes = kCount * sizeof(int);

__global__ void add_to_each(int* values, int count, int addend) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += addend;
}

void add(int* values, int addend, dev::stream_t stream) {
  dev::launch(add_to_each, dim3((kCount + 127) / 128), dim3(128), 0, stream, values, kCount, addend);
}

/// Two streams, device memory of kCount zeros, pinned memory of kCount times 1.
class Runtime : public testing::Test {
 protected:
  Runtime() : pinned_(static_cast<int*>(dev::malloc_pinned(kBytes))) { std::fill_n(pinned_, kCount, 1); }
  ~Runtime() override {
    dev::destroy_stream(stream_);
    dev::destroy_stream(other_);
    dev::free_pinned(pinned_);
  }
  std::vector<int> pinned() const { return {pinned_, pinned_ + kCount}; }

  dev::stream_t stream_ = dev::create_stream();
  dev::stream_t other_ = dev::create_stream();
  int* pinned_;
  dev::Buffer<int> device_{std::vector<int>(kCount, 0), "device"};
};

TEST_F(Runtime, TellsAboutTheDevice) {
  ASSERT_GE(dev::num_devices(), 1);
  const dev::DeviceProperties properties = dev::device_properties();
  EXPECT_FALSE(properties.name.empty());
  EXPECT_GE(properties.compute_major, 8);
  EXPECT_GT(properties.num_sms, 0);
  EXPECT_GT(properties.shared_bytes_per_block, std::size_t{48} * 1024);
  const dev::DeviceMemory memory = dev::device_memory();
  EXPECT_GT(memory.free_bytes, 0u);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
}

TEST_F(Runtime, DoesAStreamsWorkInItsOrder) {
  dev::copy_to_device_async(device_.get(), pinned_, kBytes, stream_);
  add(device_.get(), 10, stream_);
  dev::Buffer<int> copy(kCount);
  dev::copy_on_device_async(copy.get(), device_.get(), kBytes, stream_);
  dev::fill_async(device_.get(), 0, kBytes, stream_);
  dev::copy_to_host_async(pinned_, copy.get(), kBytes, stream_);
  dev::synchronize(stream_);
  EXPECT_EQ(pinned(), std::vector<int>(kCount, 11));
  EXPECT_EQ(device_.download(), std::vector<int>(kCount, 0));
  EXPECT_TRUE(dev::is_idle(stream_));
}

TEST_F(Runtime, MakesAStreamWaitForAnothersEvent) {
  const dev::event_t added = dev::create_event();
  add(device_.get(), 5, other_);
  dev::record(added, other_);
  dev::wait(stream_, added);
  dev::copy_to_host_async(pinned_, device_.get(), kBytes, stream_);
  dev::synchronize(stream_);
  EXPECT_EQ(pinned(), std::vector<int>(kCount, 5));
  EXPECT_TRUE(dev::is_done(added));
  dev::destroy_event(added);
}

TEST_F(Runtime, TimesWhatLiesBetweenTwoEvents) {
  const dev::event_t begin = dev::create_event(true), end = dev::create_event(true);
  dev::record(begin, stream_);
  add(device_.get(), 1, stream_);
  dev::record(end, stream_);
  while (!dev::is_done(end)) {
  }
  EXPECT_GE(dev::elapsed_ms(begin, end), 0.0);
  dev::destroy_event(begin);
  dev::destroy_event(end);
}

TEST_F(Runtime, CopiesFromPageableMemoryBeforeItReturns) {
  std::vector<int> values(kCount, 3);
  dev::copy_to_device_async(device_.get(), values.data(), kBytes, stream_);
  values.assign(kCount, 4);
  dev::synchronize(stream_);
  EXPECT_EQ(device_.download(), std::vector<int>(kCount, 3));
}

TEST_F(Runtime, ReplaysWhatItCaptured) {
  dev::begin_capture(stream_);
  dev::copy_to_device_async(device_.get(), pinned_, kBytes, stream_);
  add(device_.get(), 10, stream_);
  add(device_.get(), 100, stream_);
  const dev::graph_t graph = dev::end_capture(stream_);
  EXPECT_EQ(dev::num_nodes(graph), 3u);
  EXPECT_EQ(device_.download(), std::vector<int>(kCount, 0));  // captured, not done

  for (const int start : {1, 2}) {
    std::fill_n(pinned_, kCount, start);  // a replay reads what the memory holds then
    dev::launch_graph(graph, stream_);
    dev::synchronize(stream_);
    EXPECT_EQ(device_.download(), std::vector<int>(kCount, start + 110));
  }
  dev::destroy_graph(graph);
}

TEST_F(Runtime, CanAbandonACapture) {
  dev::begin_capture(stream_);
  add(device_.get(), 1, stream_);
  dev::abandon_capture(stream_);
  add(device_.get(), 2, stream_);
  dev::synchronize(stream_);
  EXPECT_EQ(device_.download(), std::vector<int>(kCount, 2));
}

TEST_F(Runtime, SaysHowMuchMemoryIsMissing) {
  const std::size_t needed = dev::device_memory().total_bytes + 1;
  try {
    dev::malloc_device(needed);
    FAIL() << "allocated more than there is";
  } catch (const dev::OutOfDeviceMemory& error) {
    EXPECT_EQ(error.needed_bytes(), needed);
    EXPECT_GT(error.free_bytes(), 0u);
    EXPECT_FALSE(error.is_sticky());
    EXPECT_NE(std::string(error.what()).find(std::to_string(needed)), std::string::npos);
  }
  dev::free_device(dev::malloc_device(1));  // the device goes on
}

#if !defined(__CUDACC__)

class EmulatedRuntime : public Runtime {
 protected:
  void SetUp() override {
    if (emulation::config().landing != emulation::Landing::kLazy) GTEST_SKIP() << "EMU_ASYNC is not lazy";
  }
  void TearDown() override { emulation::reset_device(); }
};

TEST_F(EmulatedRuntime, ShowsAMissingSynchronisation) {
  dev::copy_to_device_async(device_.get(), pinned_, kBytes, stream_);
  std::fill_n(pinned_, kCount, 9);  // too early: the copy may not have been made yet
  dev::synchronize(stream_);
  EXPECT_EQ(device_.download(), std::vector<int>(kCount, 9));

  add(device_.get(), 1, other_);
  dev::copy_to_host_async(pinned_, device_.get(), kBytes, stream_);  // does not wait for the other stream
  dev::synchronize(stream_);
  EXPECT_EQ(pinned(), std::vector<int>(kCount, 9));
}

TEST_F(EmulatedRuntime, RefusesWhatSpoilsACapture) {
  std::vector<int> pageable(kCount, 1);
  dev::begin_capture(stream_);
  EXPECT_THROW(dev::malloc_device(1), dev::DeviceError);
  EXPECT_THROW(dev::synchronize(stream_), dev::DeviceError);
  EXPECT_THROW(add(device_.get(), 1, nullptr), dev::DeviceError);
  EXPECT_THROW(dev::copy_to_device_async(device_.get(), pageable.data(), kBytes, stream_), dev::DeviceError);
  dev::destroy_graph(dev::end_capture(stream_));
}

TEST_F(EmulatedRuntime, RefusesCopiesThatLeaveAnAllocation) {
  EXPECT_THROW(dev::copy_to_device_async(device_.get() + 1, pinned_, kBytes, stream_), dev::DeviceError);
  EXPECT_THROW(dev::copy_on_device_async(device_.get(), pinned_, kBytes, stream_), dev::DeviceError);
  EXPECT_THROW(dev::copy_to_device_async(device_.get(), device_.get(), kBytes, stream_), dev::DeviceError);
}

__global__ void deadlock() {
  if (threadIdx.x < 32) dev::bar_sync(1, 64);
}

TEST_F(EmulatedRuntime, IsLostAfterAKernelFails) {
  dev::launch(deadlock, dim3(1), dim3(64), 0, stream_);
  try {
    dev::synchronize(stream_);
    FAIL() << "a deadlock went unnoticed";
  } catch (const dev::DeviceError& error) {
    EXPECT_TRUE(error.is_sticky());
    EXPECT_NE(std::string(error.what()).find("deadlock"), std::string::npos) << error.what();
  }
  EXPECT_THROW(dev::malloc_device(1), dev::DeviceError);
  EXPECT_THROW(add(device_.get(), 1, stream_), dev::DeviceError);
}

TEST_F(EmulatedRuntime, LimitsDeviceMemory) {
  emulation::config().device_memory_bytes = std::size_t{1} << 20;
  EXPECT_THROW(dev::malloc_device((std::size_t{1} << 20) - kBytes + 1), dev::OutOfDeviceMemory);
  dev::free_device(dev::malloc_device((std::size_t{1} << 20) - kBytes));
  emulation::config().device_memory_bytes = emulation::Config{}.device_memory_bytes;
}

#endif

}  // namespace
}  // namespace redline::cuda
