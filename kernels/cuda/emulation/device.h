// The emulated device: its allocations, its streams, and what was enqueued but not yet done. Internal to the
// emulation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace redline::cuda::emulation {

/// Work of a stream.
struct Operation {
  std::function<void()> run;
  bool launches = false;  // a kernel
};

}  // namespace redline::cuda::emulation

namespace redline::cuda::dev {

/// What a capture recorded.
struct Graph {
  std::vector<emulation::Operation> nodes;
};

}  // namespace redline::cuda::dev

/// Work in the order given. Operation i of a stream's life is done when `num_done` exceeds i.
struct CUstream_st {
  std::deque<redline::cuda::emulation::Operation> pending;
  std::uint64_t num_given = 0;
  std::uint64_t num_done = 0;
  redline::cuda::dev::Graph* capture = nullptr;
  std::thread::id capturing_thread;
};

/// Done when its stream has done as many operations as it had been given when the event was recorded.
struct CUevent_st {
  CUstream_st* stream = nullptr;
  std::uint64_t num_given = 0;
  bool timed = false;
  bool recorded = false;
  double time_ms = 0;  // when the stream came to it
};

namespace redline::cuda::emulation {

/// Allocations of one kind, by address.
class Allocations {
 public:
  void add(const void* data, std::size_t bytes);
  /// Its size; throws where nothing was allocated there.
  std::size_t remove(const void* data);
  bool holds(const void* data, std::size_t bytes) const;
  /// Whether any of these bytes belongs to an allocation.
  bool touches(const void* data, std::size_t bytes) const;
  std::size_t total_bytes() const { return total_bytes_; }

 private:
  std::map<const std::byte*, std::size_t> sizes_;
  std::size_t total_bytes_ = 0;
};

class Device {
 public:
  using Lock = std::unique_lock<std::recursive_mutex>;

  static Device& get();
  /// Held by every call: the device does one thing at a time.
  Lock lock() { return Lock(mutex_); }
  /// Throws if the device was lost; `call` is who asks.
  void check_usable(const char* call) const;
  /// Also throws while this thread captures: `call` would spoil that.
  void check_not_capturing(const char* call) const;

  /// Gives a stream work, or records it where the stream captures. Null: does it.
  void enqueue(CUstream_st* stream, const char* call, std::function<void()> run, bool launches = false);
  /// Runs a stream's work until `num_done` operations of its life are done; or one operation.
  void run_until(CUstream_st& stream, std::uint64_t num_done);
  void run_one(CUstream_st& stream);
  void run_all();

  Allocations device_memory;
  Allocations pinned_memory;
  std::unordered_set<CUstream_st*> streams;
  std::string lost;  // why the device is lost to this process; empty: it is not

 private:
  void land_some(CUstream_st& stream);

  std::recursive_mutex mutex_;
  std::minstd_rand random_;
};

}  // namespace redline::cuda::emulation
