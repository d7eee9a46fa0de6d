#include "kernels/cpu/ceilings.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace redline {
namespace {

// MemAvailable of /proc/meminfo; unlimited where there is no such file.
std::int64_t available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  for (std::int64_t kib = 0; file >> key >> kib; file.ignore(64, '\n'))
    if (key == "MemAvailable:") return kib << 10;
  return std::numeric_limits<std::int64_t>::max();
}

double now_s(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Rates of reads, by the wall clock where every thread had a core all the time, and by the threads' clocks.
struct ReadRates {
  std::vector<double> clean, on_own_clock;
  bool disturbed() const { return clean.size() < 3; }
  double result() const { return median(disturbed() ? on_own_clock : clean); }
};

class Stopwatch {
 public:
  explicit Stopwatch(ThreadPool& pool) : pool_(pool) {}

  struct Times {
    double wall_s = 0;
    double cpu_s = 0;  // of all threads
  };

  // Runs body(chunk) for every chunk; its results are kept from the optimiser.
  template <class Body>
  Times run(std::int64_t chunks, Body&& body) {
    cpu_ns_ = 0;
    const double start = now_s(CLOCK_MONOTONIC);
    pool_.run(chunks, [&](std::int64_t chunk, int) {
      const double cpu_start = now_s(CLOCK_THREAD_CPUTIME_ID);
      sink_.fetch_xor(body(chunk), std::memory_order_relaxed);
      cpu_ns_ += static_cast<std::int64_t>(1e9 * (now_s(CLOCK_THREAD_CPUTIME_ID) - cpu_start));
    });
    return {now_s(CLOCK_MONOTONIC) - start, std::max(1e-9 * static_cast<double>(cpu_ns_.load()), 1e-9)};
  }

  double compute_rate(const cpu::ComputeLoop& loop, double sample_s) {
    constexpr double kChunkS = 100e-6;
    const std::int64_t trial = 2000;
    const double trial_s = run(1, [&](std::int64_t) { return loop.run(trial); }).cpu_s;
    const std::int64_t iterations =
        std::max<std::int64_t>(1, std::llround(static_cast<double>(trial) * kChunkS / trial_s));
    const std::int64_t chunks =
        std::max<std::int64_t>(1, std::llround(sample_s / kChunkS)) * pool_.num_threads();
    const Times times = run(chunks, [&](std::int64_t) { return loop.run(iterations); });
    return static_cast<double>(loop.ops_per_iteration * iterations * chunks) * pool_.num_threads() /
           times.cpu_s;
  }

  // Reads [data, data + bytes), every thread a stream of its own, `passes` times.
  void read_rate(cpu::ReadLoop read_loop, const std::byte* data, std::int64_t bytes, std::int64_t chunk_bytes,
                 int passes, ReadRates& rates) {
    const std::int64_t chunks = bytes / chunk_bytes;
    Times times;
    for (int pass = 0; pass < passes; ++pass) {
      const Times t = run(chunks, [&](std::int64_t chunk) {
        return read_loop(data + chunk * chunk_bytes, static_cast<std::size_t>(chunk_bytes));
      });
      times.wall_s += t.wall_s;
      times.cpu_s += t.cpu_s;
    }
    const double read = static_cast<double>(chunks * chunk_bytes * passes);
    rates.on_own_clock.push_back(read * pool_.num_threads() / times.cpu_s);
    if (times.cpu_s > 0.95 * times.wall_s * pool_.num_threads()) rates.clean.push_back(read / times.wall_s);
  }

 private:
  ThreadPool& pool_;
  std::atomic<std::int64_t> cpu_ns_{0}, sink_{0};
};

// A buffer of whole chunks whose pages the pool's threads touched.
Buffer touched_buffer(ThreadPool& pool, std::int64_t bytes, std::int64_t chunk_bytes) {
  Buffer buffer(static_cast<std::size_t>(bytes / chunk_bytes * chunk_bytes));
  pool.run(bytes / chunk_bytes, [&](std::int64_t chunk, int) {
    std::memset(buffer.data() + chunk * chunk_bytes, 1, static_cast<std::size_t>(chunk_bytes));
  });
  return buffer;
}

}  // namespace

std::vector<std::string> ceiling_isas() {
  std::vector<std::string> names;
  for (const cpu::KernelTable& kernels : cpu::usable_kernels()) names.emplace_back(kernels.isa);
  return names;
}

struct CeilingMeter::State {
  static constexpr std::int64_t kMiB = 1 << 20, kMemoryChunk = kMiB / 2, kCacheChunk = 64 << 10;

  explicit State(const CeilingOptions& given)
      : options(given),
        kernels(cpu::kernels_of(options.isa)),
        pool(options.threads > 0 ? options.threads : default_num_threads()),
        window(16 * kMiB * pool.num_threads()),
        memory(touched_buffer(pool, std::max(window, memory_bytes(options)), kMemoryChunk)),
        cached(touched_buffer(pool, options.llc_bytes / 4, kCacheChunk)) {}

  static std::int64_t memory_bytes(const CeilingOptions& options) {
    if (options.memory_bytes > 0) return options.memory_bytes;
    return std::min(std::clamp(8 * options.llc_bytes, 512 * kMiB, 1024 * kMiB), available_memory_bytes() / 4);
  }

  const CeilingOptions options;
  const cpu::KernelTable& kernels;
  ThreadPool pool;
  // Memory is read in windows that follow each other, so that none is still in a cache; short ones, so that
  // some samples run undisturbed.
  const std::int64_t window;
  const Buffer memory, cached;
  std::int64_t next_window = 0;
};

CeilingMeter::CeilingMeter(const CeilingOptions& options) : state_(std::make_unique<State>(options)) {}
CeilingMeter::~CeilingMeter() = default;

Ceilings CeilingMeter::measure() {
  constexpr double kPatienceS = 1.5;  // for clean samples
  const CeilingOptions& options = state_->options;
  const cpu::ReadLoop read = state_->kernels.ceilings.read;
  Stopwatch stopwatch(state_->pool);
  Ceilings ceilings;
  ceilings.isa = state_->kernels.isa;
  ceilings.threads = state_->pool.num_threads();

  for (const cpu::ComputeLoop* loop : state_->kernels.ceilings.compute) {
    if (!loop) break;
    std::vector<double> rates;
    for (int sample = 0; sample < options.samples; ++sample)
      rates.push_back(stopwatch.compute_rate(*loop, options.sample_s));
    ceilings.ops_per_s[static_cast<std::size_t>(loop->type)] = median(rates);
  }

  const std::int64_t windows = static_cast<std::int64_t>(state_->memory.size()) / state_->window;
  const std::int64_t cached_bytes = static_cast<std::int64_t>(state_->cached.size());
  ReadRates memory_rates, cache_rates, warm_up;
  const double start = now_s(CLOCK_MONOTONIC);
  for (int sample = 0; sample < options.samples || (memory_rates.disturbed() && options.memory_bytes == 0 &&
                                                    now_s(CLOCK_MONOTONIC) - start < kPatienceS);
       ++sample) {
    const std::byte* window = state_->memory.data() + state_->next_window++ % windows * state_->window;
    stopwatch.read_rate(read, window, state_->window, State::kMemoryChunk, 1, memory_rates);
    if (cached_bytes == 0) continue;
    stopwatch.read_rate(read, state_->cached.data(), cached_bytes, State::kCacheChunk, 1, warm_up);
    stopwatch.read_rate(read, state_->cached.data(), cached_bytes, State::kCacheChunk, 8, cache_rates);
  }
  ceilings.memory_bytes_per_s = memory_rates.result();
  ceilings.disturbed = memory_rates.disturbed();
  if (cached_bytes > 0) ceilings.llc_bytes_per_s = cache_rates.result();
  return ceilings;
}

Ceilings measure_ceilings(const CeilingOptions& options) { return CeilingMeter(options).measure(); }

}  // namespace redline
