// The host's objects on the device: memory, streams, events, captured graphs. On a GPU host_cuda.cu
// implements them, under emulation emulation/host.cpp does. Each owns what it names; every failing call
// throws std::runtime_error naming itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/tensor.h"

namespace redline::cuda::dev {

struct DeviceProperties {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int num_multiprocessors = 0;
  int compute_capability = 0;  // 90 for 9.0
  std::int64_t memory_bytes = 0;
  std::int64_t l2_bytes = 0;
};

/// Devices that the driver shows; 0 without a driver.
int num_devices();
/// Makes `device` the calling thread's own. Throws naming the devices that there are.
DeviceProperties select_device(int device);
std::int64_t free_bytes();

/// Uninitialised device memory. Throws with the bytes needed and free where there is too little.
redline::Buffer allocate(std::size_t bytes);
/// Host memory that the device reads and writes directly.
redline::Buffer allocate_pinned(std::size_t bytes);
/// Between host and device or within the device, in the stream's order. From pageable host memory, the source
/// may be reused when this returns.
void copy_async(void* to, const void* from, std::size_t bytes, stream_t stream);
void fill_async(void* to, int byte, std::size_t bytes, stream_t stream);
/// After all work of all streams.
void copy(void* to, const void* from, std::size_t bytes);
void synchronize(stream_t stream);

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  stream_t get() const { return stream_; }
  void synchronize() { dev::synchronize(stream_); }

 private:
  stream_t stream_{};
};

/// A point in a stream. Before its first record it counts as reached.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(stream_t stream);
  /// Waits until it is reached.
  void synchronize();
  /// Device time from this to `later`; both must be reached.
  std::int64_t elapsed_ns_until(const Event& later) const;

 private:
  void* event_ = nullptr;
};

/// Launches and copies recorded from a stream, replayed as one.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  /// From here on what is given to `stream` is recorded and does not run.
  static void begin_capture(stream_t stream);
  static Graph end_capture(stream_t stream);
  void launch(stream_t stream) const;
  explicit operator bool() const { return executable_ != nullptr; }

 private:
  void* executable_ = nullptr;
};

}  // namespace redline::cuda::dev
