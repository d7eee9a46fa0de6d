// Persistent threads that share out the chunks of one operation at a time; the caller is thread 0.
//
// Every thread owns a contiguous range of the chunks and takes them in order from its own cursor, so each
// reads one sequential stream; whoever runs dry takes from the others. The caller waits for chunks, never for
// threads: a worker that lost its core before it took a chunk costs nothing. Idle workers spin briefly, then
// sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace redline {

/// Cores that this process may use: distinct physical cores of its affinity mask, at most its cgroup's quota
/// rounded up; at least 1.
int default_num_threads();

class ThreadPool {
 public:
  /// Requires num_threads >= 1; num_threads - 1 threads are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  /// Calls body(chunk, thread) once for each chunk in [0, num_chunks) and returns when all are done. `thread`
  /// is in [0, num_threads) and no two calls that run at one time share it. One caller at a time; not
  /// reentrant; body must not throw.
  template <class Body>
  void run(std::int64_t num_chunks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    dispatch(
        num_chunks,
        [](void* self, std::int64_t chunk, int thread) { (*static_cast<Plain*>(self))(chunk, thread); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 private:
  using Invoke = void (*)(void* body, std::int64_t chunk, int thread);

  // One cache line a thread for what others take from, one for what it alone writes.
  struct Lane {
    alignas(64) std::atomic<std::uint64_t> cursor{0};  // job << 32 | chunks left in this lane's range
    alignas(64) std::atomic<std::uint64_t> done{0};    // chunks of this job that this thread has finished
  };

  void dispatch(std::int64_t num_chunks, Invoke invoke, void* body);
  void work(std::uint32_t job, int thread);
  void run_worker(int thread);

  const int num_threads_;
  std::unique_ptr<Lane[]> lanes_;
  alignas(64) std::atomic<std::uint32_t> job_{0};
  // The job itself: written before its cursors are published, read only after a chunk was taken.
  alignas(64) Invoke invoke_ = nullptr;
  void* body_ = nullptr;
  std::int64_t num_chunks_ = 0;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace redline
