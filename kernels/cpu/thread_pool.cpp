#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include "kernels/check.h"

namespace redline {
namespace {

// Long enough to bridge the gap between two decode steps, short enough that nobody notices.
constexpr auto kSpinTime = std::chrono::microseconds(200);
// Beyond this a spinning thread offers its core to whoever has work for it.
constexpr auto kPauseTime = std::chrono::microseconds(20);

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready`, at most `limit` long; whether it was.
template <class Ready>
bool spin_until(Ready&& ready, std::chrono::nanoseconds limit) {
  for (int i = 0; i < 256; ++i) {
    if (ready()) return true;
    pause_cpu();
  }
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited > limit) return ready();
    if (waited > kPauseTime) sched_yield();
  }
}

// CPUs' worth of time that the cgroup grants, or infinity. Looks at each level from the process's own group
// up.
double cgroup_quota() {
  double quota = std::numeric_limits<double>::infinity();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto colon = line.find(':');
    const auto second = line.find(':', colon + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(colon + 1, second - colon - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers.find("cpu") == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    for (;;) {
      const std::string folder = (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu") + path + "/";
      double period = 0;
      std::string allowed;
      if (v2) {
        std::ifstream(folder + "cpu.max") >> allowed >> period;
      } else {
        std::ifstream(folder + "cpu.cfs_quota_us") >> allowed;
        std::ifstream(folder + "cpu.cfs_period_us") >> period;
      }
      if (!allowed.empty() && allowed != "max" && allowed[0] != '-' && period > 0)
        quota = std::min(quota, std::stod(allowed) / period);
      if (path.empty() || path == "/") break;
      path.erase(path.rfind('/'));
    }
  }
  return quota;
}

int num_cores_in_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0)
    return static_cast<int>(std::thread::hardware_concurrency());
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    int package = 0, core = -1;
    std::ifstream(topology + "physical_package_id") >> package;
    std::ifstream(topology + "core_id") >> core;
    cores.emplace(package, core >= 0 ? core : -1 - cpu);
  }
  return static_cast<int>(cores.size());
}

}  // namespace

int default_num_threads() {
  const double cores = std::max(1, num_cores_in_mask());
  return std::max(1, static_cast<int>(std::min(cores, std::ceil(cgroup_quota()))));
}

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  REDLINE_CHECK(num_threads >= 1, "a pool has at least its caller");
  lanes_ = std::make_unique<Lane[]>(static_cast<std::size_t>(num_threads));
  for (int thread = 1; thread < num_threads; ++thread)
    threads_.emplace_back([this, thread] { run_worker(thread); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  job_.fetch_add(1);
  job_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::dispatch(std::int64_t num_chunks, Invoke invoke, void* body) {
  if (num_threads_ == 1 || num_chunks <= 1) {
    for (std::int64_t chunk = 0; chunk < num_chunks; ++chunk) invoke(body, chunk, 0);
    return;
  }
  REDLINE_CHECK(num_chunks <= std::numeric_limits<std::int32_t>::max(), "chunks are counted in 32 bits");
  invoke_ = invoke;
  body_ = body;
  num_chunks_ = num_chunks;
  const std::uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  for (int i = 0; i < num_threads_; ++i) {
    const std::int64_t first = num_chunks * i / num_threads_, last = num_chunks * (i + 1) / num_threads_;
    lanes_[i].done.store(0, std::memory_order_relaxed);
    lanes_[i].cursor.store(std::uint64_t{job} << 32 | static_cast<std::uint64_t>(last - first),
                           std::memory_order_release);
  }
  job_.store(job);
  job_.notify_all();
  work(job, 0);
  const auto all_done = [&] {
    std::uint64_t done = 0;
    for (int i = 0; i < num_threads_; ++i) done += lanes_[i].done.load(std::memory_order_acquire);
    return done == static_cast<std::uint64_t>(num_chunks);
  };
  while (!spin_until(all_done, kSpinTime)) {
  }
}

void ThreadPool::work(std::uint32_t job, int thread) {
  std::uint64_t done = 0;
  for (int i = 0; i < num_threads_; ++i) {
    const int owner = (thread + i) % num_threads_;
    auto& cursor = lanes_[owner].cursor;
    std::uint64_t seen = cursor.load(std::memory_order_relaxed);
    // The job tag keeps a late thread from taking the next job's chunks unawares.
    while (seen >> 32 == job && static_cast<std::uint32_t>(seen) != 0) {
      if (!cursor.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_relaxed))
        continue;
      const std::int64_t end = num_chunks_ * (owner + 1) / num_threads_;
      invoke_(body_, end - static_cast<std::int64_t>(static_cast<std::uint32_t>(seen)), thread);
      lanes_[thread].done.store(++done, std::memory_order_release);
      seen = cursor.load(std::memory_order_relaxed);
    }
  }
}

void ThreadPool::run_worker(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    const auto new_job = [&] { return job_.load(std::memory_order_acquire) != seen; };
    while (!spin_until(new_job, kSpinTime)) job_.wait(seen);
    if (stop_.load()) return;
    seen = job_.load(std::memory_order_acquire);
    work(seen, thread);
  }
}

}  // namespace redline
