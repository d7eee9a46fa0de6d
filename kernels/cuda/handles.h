// Owners of what runtime.h hands out.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cuda/runtime.h"
#include "kernels/tensor.h"

namespace redline::cuda {

inline Buffer allocate_device(std::size_t bytes, const char* name) {
  if (bytes == 0) return {};
  return {dev::malloc_device(bytes, name), bytes, [](void* data, std::size_t) { dev::free_device(data); }};
}

inline Buffer allocate_pinned(std::size_t bytes) {
  if (bytes == 0) return {};
  return {dev::malloc_pinned(bytes), bytes, [](void* data, std::size_t) { dev::free_pinned(data); }};
}

class Stream {
 public:
  Stream() : stream_(dev::create_stream()) {}
  ~Stream() { dev::destroy_stream(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  dev::stream_t get() const { return stream_; }
  void synchronize() const { dev::synchronize(stream_); }

 private:
  dev::stream_t stream_;
};

/// A timed point in a stream.
class Event {
 public:
  Event() : event_(dev::create_event(true)) {}
  ~Event() { dev::destroy_event(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(const Stream& stream) { dev::record(event_, stream.get()); }
  void synchronize() const { dev::synchronize(event_); }
  /// Device time from `earlier`; both must have been recorded and reached.
  std::int64_t elapsed_ns_since(const Event& earlier) const {
    return std::llround(dev::elapsed_ms(earlier.event_, event_) * 1e6);
  }

 private:
  dev::event_t event_;
};

/// A captured sequence of launches and copies.
class Graph {
 public:
  Graph() = default;
  explicit Graph(dev::graph_t graph) : graph_(graph) {}
  ~Graph() {
    if (graph_ != nullptr) dev::destroy_graph(graph_);
  }
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }
  explicit operator bool() const { return graph_ != nullptr; }
  void launch(const Stream& stream) const { dev::launch_graph(graph_, stream.get()); }

 private:
  dev::graph_t graph_ = nullptr;
};

}  // namespace redline::cuda
