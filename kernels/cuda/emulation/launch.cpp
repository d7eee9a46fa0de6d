// A launch: blocks of the grid spread over OS threads, each run to completion; the configuration and the
// counters.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <numeric>
#include <string_view>
#include <thread>
#include <utility>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda::emulation {

thread_local constinit Block* running_block = nullptr;

/// What a dependent launch was started before, done when it is first waited for: on an OS thread of its own,
/// for the waiting one runs a block.
class PriorLaunch {
 public:
  explicit PriorLaunch(std::function<void()> run) : run_(std::move(run)) {}
  bool is_done() const { return is_done_; }
  /// Why it failed; empty: it did not.
  const std::string& wait() {
    std::call_once(once_, [&] {
      std::thread([&] {
        try {
          run_();
        } catch (const std::exception& error) {
          error_ = error.what();
        }
      }).join();
      is_done_ = true;
    });
    return error_;
  }

 private:
  std::function<void()> run_;
  std::once_flag once_;
  std::atomic<bool> is_done_{false};
  std::string error_;
};

namespace {

thread_local PriorLaunch* prior_of_next_launch = nullptr;

std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

Config from_environment() {
  Config config;
  const std::string_view schedule = environment("EMU_SCHED"), landing = environment("EMU_ASYNC");
  if (schedule == "random") config.schedule = Schedule::kRandom;
  if (schedule == "lifo") config.schedule = Schedule::kLifo;
  if (schedule == "reverse") config.schedule = Schedule::kReverse;
  if (landing == "eager") config.landing = Landing::kEager;
  if (landing == "random") config.landing = Landing::kRandom;
  if (const std::string seed(environment("EMU_SEED")); !seed.empty()) config.seed = std::stoull(seed);
  if (const std::string count(environment("EMU_THREADS")); !count.empty())
    config.num_os_threads = std::stoi(count);
  return config;
}

/// Stacks and arenas outlive launches: making them costs more than most grids.
class BlockPool {
 public:
  std::unique_ptr<Block> take() {
    const std::lock_guard lock(mutex_);
    if (blocks_.empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> block = std::move(blocks_.back());
    blocks_.pop_back();
    return block;
  }
  void give_back(std::unique_ptr<Block> block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(std::move(block));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

BlockPool& pool() {
  static BlockPool pool;
  return pool;
}

std::mutex& stats_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// Block i of a random order: a linear permutation drawn with the seed.
class BlockOrder {
 public:
  explicit BlockOrder(std::uint64_t num_blocks) : num_blocks_(num_blocks) {
    if (config().schedule != Schedule::kRandom) return;
    offset_ = config().seed % num_blocks;
    stride_ = (config().seed * 2654435761u) % num_blocks | 1;
    while (std::gcd(stride_, num_blocks) != 1) stride_ += 2;
  }
  std::uint64_t operator[](std::uint64_t i) const { return (i * stride_ + offset_) % num_blocks_; }

 private:
  std::uint64_t num_blocks_;
  std::uint64_t stride_ = 1;
  std::uint64_t offset_ = 0;
};

}  // namespace

void check_geometry(dim3 grid, dim3 block, std::size_t dynamic_bytes) {
  const std::uint64_t num_threads = std::uint64_t{block.x} * block.y * block.z;
  if (num_threads < 1 || num_threads > 1024 || block.z > 64) {
    throw Error(text("launch: bad block of ", block.x, " x ", block.y, " x ", block.z, " threads"));
  }
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
    throw Error(text("launch: bad grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks"));
  }
  const std::size_t limit = config().shared_memory_limit_bytes;
  if (dynamic_bytes > limit) {
    throw Error(
        text("launch: dynamic shared memory of ", dynamic_bytes, " bytes is over the limit of ", limit));
  }
  if (running_block) throw Error("launch from inside a kernel");
}

Config& config() {
  static Config config = from_environment();
  return config;
}

Stats& stats() {
  static Stats stats;
  return stats;
}

void Stats::add(const Stats& other) {
  blocks += other.blocks;
  threads += other.threads;
  switches += other.switches;
  warp_collectives += other.warp_collectives;
  barriers += other.barriers;
  mma += other.mma;
  async_copies += other.async_copies;
  ldmatrix_matrices += other.ldmatrix_matrices;
  ldmatrix_wavefronts += other.ldmatrix_wavefronts;
  shared_bytes_max = std::max(shared_bytes_max, other.shared_bytes_max);
}

void Block::configure(void (*entry)(void*), void* arguments, dim3 grid, dim3 block,
                      std::size_t dynamic_bytes) {
  entry_ = entry;
  arguments_ = arguments;
  grid_ = grid;
  dynamic_bytes_ = dynamic_bytes;
  stats = Stats{};
  num_threads = static_cast<int>(block.x * block.y * block.z);
  const auto n = static_cast<std::size_t>(num_threads);
  if (threads.size() < n) threads.resize(n);
  const std::uint32_t ring_size = std::bit_ceil(static_cast<std::uint32_t>(n + 1));
  ring_.resize(ring_size);
  ring_mask_ = ring_size - 1;
  for (int i = 0; i < num_threads; ++i) {
    Thread& thread = threads[static_cast<std::size_t>(i)];
    const auto linear = static_cast<unsigned>(i);
    thread.index = i;
    thread.warp = i / 32;
    thread.lane = i % 32;
    thread.thread_idx = {linear % block.x, linear / block.x % block.y, linear / block.x / block.y};
  }
  ::blockDim = {block.x, block.y, block.z};
  ::gridDim = {grid.x, grid.y, grid.z};
#if REDLINE_EMULATION_ASAN
  pthread_attr_t attributes;
  void* low = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &host_.stack_bytes);
  pthread_attr_destroy(&attributes);
  host_.stack_low = static_cast<char*>(low);
#endif
}

void Block::start_threads(std::uint64_t block_index) {
  random_state_ = (config().seed * 0x9e3779b97f4a7c15ull) ^ ((block_index + 1) * 0xbf58476d1ce4e5b9ull);
  if (random_state_ == 0) random_state_ = 1;
  for (int i = 0; i < 4; ++i) random();
  static constexpr int kReluctance[4] = {-1, 1, 4, 8};
  landing_reluctance_ = kReluctance[random() % 4];
  policy = config().schedule;
  bool shuffled = false;
  if (policy == Schedule::kRandom) {
    const std::uint64_t drawn = random() % 4;
    shuffled = drawn < 2;
    if (shuffled) policy = drawn == 0 ? Schedule::kLifo : Schedule::kFifo;
  }
  for (int i = 0; i < num_threads; ++i) {
    Thread& thread = threads[static_cast<std::size_t>(i)];
    thread.state = State::kNotStarted;
    thread.copies.clear();
    thread.group_ends.clear();
    thread.groups_done = 0;
    thread.wgmmas.clear();
    thread.wgmma_group_ends.clear();
    ring_[static_cast<std::size_t>(i)] = i;
  }
  const auto end = ring_.begin() + num_threads;
  if (policy == Schedule::kReverse || policy == Schedule::kLifo) std::reverse(ring_.begin(), end);
  for (std::uint64_t i = static_cast<std::uint64_t>(num_threads) - 1; shuffled && i > 0; --i) {
    std::swap(ring_[i], ring_[random() % (i + 1)]);
  }
  ring_head_ = 0;
  ring_count_ = static_cast<std::uint32_t>(num_threads);
}

std::string Block::run(std::uint64_t block_index) {
  ::blockIdx = {static_cast<unsigned>(block_index % grid_.x),
                static_cast<unsigned>(block_index / grid_.x % grid_.y),
                static_cast<unsigned>(block_index / grid_.x / grid_.y)};
  static std::atomic<std::uint64_t> epochs{0};
  epoch = ++epochs;
  failed_ = false;
  error_.clear();
  num_live = num_threads;
  const auto num_warps = static_cast<std::size_t>((num_threads + 31) / 32);
  warp_arrived.assign(num_warps, 0);
  warp_exited.assign(num_warps, 0);
  for (Barrier& barrier : barriers) {
    barrier.arrived = 0;
    barrier.waiters.clear();
    barrier.arrivers.clear();
  }
  bulk_copies.clear();
  reclaim_abandoned();
  reset_shared();
  start_threads(block_index);
  if (race::enabled) race::begin_block(*this, block_index);

  start_or_resume(*pick());  // returns when every thread has finished, or has been unwound after a failure
  ++stats.blocks;
  stats.threads += static_cast<std::uint64_t>(num_threads);
  if (failed_) return error_;
  if (!bulk_copies.empty()) return text("block finished with bulk copies in flight\n  in ", describe_place());
  std::string error = overrun();
  if (!error.empty()) error += text("\n  in ", describe_place());
  return error;
}

void launch(void (*call)(void*), void* arguments, dim3 grid, dim3 block, std::size_t dynamic_bytes,
            bool dependent) {
  PriorLaunch* const prior = std::exchange(prior_of_next_launch, nullptr);
  check_geometry(grid, block, dynamic_bytes);
  const std::uint64_t num_blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  const race::Launch one_at_a_time(dependent);

  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::string first_error;
  const BlockOrder order(num_blocks);
  const auto run_blocks = [&] {
    std::unique_ptr<Block> worker = pool().take();
    running_block = worker.get();
    worker->configure(call, arguments, grid, block, dynamic_bytes);
    worker->prior = prior;
    for (std::uint64_t i = next++; i < num_blocks && !stop; i = next++) {
      const std::string error = worker->run(order[i]);
      if (error.empty()) continue;
      stop = true;
      const std::lock_guard lock(stats_mutex());
      if (first_error.empty()) first_error = error;
    }
    running_block = nullptr;
    {
      const std::lock_guard lock(stats_mutex());
      stats().add(worker->stats);
    }
    pool().give_back(std::move(worker));
  };

  std::uint64_t num_workers = config().num_os_threads > 0
                                  ? static_cast<std::uint64_t>(config().num_os_threads)
                                  : std::max(1u, std::thread::hardware_concurrency());
  // A thread costs some 20 us to start, as much as a thousand emulated threads that do little.
  const std::uint64_t num_threads = num_blocks * block.x * block.y * block.z;
  num_workers = race::enabled ? 1 : std::min({num_workers, num_blocks, num_threads / 1024 + 1});
  std::vector<std::thread> others;
  for (std::uint64_t i = 1; i < num_workers; ++i) others.emplace_back(run_blocks);
  run_blocks();
  for (std::thread& other : others) other.join();
  if (!first_error.empty()) throw Error(first_error);
}

void launch_before(std::function<void()> prior, const std::function<void()>& dependent) {
  if (race::enabled) {
    prior();
    dependent();
    return;
  }
  PriorLaunch launch(std::move(prior));
  prior_of_next_launch = &launch;
  dependent();
  if (!launch.is_done()) throw Error("a dependent kernel ended without wait_for_prior_kernels");
}

void wait_for_prior() {
  if (running_block == nullptr) return;
  if (race::enabled) race::note_wait(running_block->current().index);
  if (running_block->prior == nullptr) return;
  const std::string& error = running_block->prior->wait();
  if (!error.empty()) fail(text("the kernel before failed: ", error));
}

}  // namespace redline::cuda::emulation
