// The running block: its threads, fibers, barriers, shared memory and copies in flight. Internal to the
// emulation.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/emulation.h"
#include "kernels/cuda/emulation/spellings.h"

#if defined(__SANITIZE_ADDRESS__)
#define REDLINE_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REDLINE_EMULATION_ASAN 1
#endif
#endif
#ifndef REDLINE_EMULATION_ASAN
#define REDLINE_EMULATION_ASAN 0
#endif

namespace redline::cuda::emulation {

enum class State : std::uint8_t {
  kNotStarted,
  kReady,
  kRunning,
  kInWarpCollective,
  kAtBarrier,
  kInGroupCollective,
  kAtMbarrier,
  kExited
};

/// A cp.async of 16 bytes, not yet waited for.
struct AsyncCopy {
  void* destination;
  const void* source;
  bool zero_fill;
  bool landed;
  Location where;
};

/// A wgmma not yet waited for: what its accumulators will hold, and which operands it may still read.
struct PendingWgmma {
  float* accumulators;
  std::vector<float> results;
  std::uint64_t a_descriptor;  // 0: A came from registers
  std::uint64_t b_descriptor;
  int n;
  bool b_transposed;
  Location where;
};

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack_low = nullptr;
  std::size_t stack_bytes = 0;
  void* asan_fake_stack = nullptr;
};

struct Thread {
  State state = State::kNotStarted;
  int index = 0;  // in the block
  int warp = 0;
  int lane = 0;
  uint3 thread_idx{};
  Fiber* fiber = nullptr;
  // what it waits for
  const char* operation = "";
  Location where;
  std::uint32_t mask = 0;
  void* argument = nullptr;
  int barrier = 0;
  std::uint64_t* mbarrier = nullptr;
  unsigned parity = 0;
  // cp.async: a group ends before copy number group_ends[i]; the first `groups_done` have been waited for
  std::vector<AsyncCopy> copies;
  std::vector<std::size_t> group_ends;
  std::size_t groups_done = 0;
  // wgmma, the same
  std::vector<PendingWgmma> wgmmas;
  std::vector<std::size_t> wgmma_group_ends;
};

struct Barrier {
  int arrived = 0;
  int expected = 0;
  int reduced = 0;
  std::vector<int> waiters;
  std::vector<int> arrivers;
  Location where;
};

/// A bulk or tensor copy in flight. Its source was read at issue; it lands in pieces of shared memory.
struct BulkCopy {
  struct Piece {
    std::uint32_t offset;
    std::uint32_t bytes;
  };
  std::vector<unsigned char> data;
  std::uint64_t* mbarrier;
  std::uint32_t transaction_bytes;
  std::vector<Piece> pieces;
};

class PriorLaunch;

/// Runs blocks of one launch, one at a time, on one OS thread.
class Block {
 public:
  static constexpr std::size_t kArenaBytes = 232 * 1024;
  static constexpr std::size_t kRedZoneBytes = 64;
  static constexpr int kNumBarriers = 16;

  Block();
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// Sets up for a grid of blocks of this shape.
  void configure(void (*entry)(void*), void* arguments, dim3 grid, dim3 block, std::size_t dynamic_bytes);
  /// Runs one block of the grid; what went wrong, or an empty string.
  std::string run(std::uint64_t block_index);

  // Scheduling (scheduler.cpp, fiber.cpp)
  Thread& current() { return *current_; }
  bool is_running() const { return current_ != nullptr; }
  void make_ready(Thread& thread);
  /// The current thread cannot go on (its state says why): runs others until it can.
  void suspend();
  [[noreturn]] void fail(const std::string& message);
  /// After a failure, where nothing may be thrown: leaves the current thread where it stands, its frames not
  /// unwound.
  [[noreturn]] void abandon_thread();
  [[noreturn]] void fiber_main();

  // Asynchronous engine (mbarrier.cpp)
  bool land_a_bulk_copy(bool forced);
  void complete_transaction(std::uint64_t* mbarrier, std::uint32_t bytes);

  // Shared memory (shared_memory.cpp)
  void reset_shared();
  void* allocate_static(std::size_t bytes, std::size_t align);
  std::string overrun() const;
  bool in_shared(const void* data, std::size_t bytes) const;
  /// An address in the 32-bit shared window and back.
  std::uint32_t shared_address(const void* data) const;
  unsigned char* shared_pointer(std::uint32_t address) const { return arena_ + address; }

  void release(Barrier& barrier);
  std::uint64_t random();

  // State of the running block, open to the collectives' translation units.
  std::vector<Thread> threads;
  int num_threads = 0;
  int num_live = 0;
  std::vector<std::uint32_t> warp_arrived;  // lanes waiting in a collective, by warp
  std::vector<std::uint32_t> warp_exited;
  std::array<Barrier, kNumBarriers> barriers;
  std::vector<BulkCopy> bulk_copies;
  Schedule policy = Schedule::kFifo;  // kRandom resolved for this block
  std::uint64_t epoch = 0;
  Stats stats;
  PriorLaunch* prior = nullptr;  // what this one's grid was started before

 private:
  friend unsigned char* dynamic_shared();

  Fiber* free_fiber();
  void reclaim_abandoned();
  void note_failure(const std::string& message);
  Thread* pick();
  Thread* pick_or_wait_for_copies();
  void start_or_resume(Thread& thread);
  void set_current(Thread& thread);
  void switch_to(Fiber& fiber);
  void switch_to_host();
  void switch_stacks(void** save, void** save_fake, void* to, void* to_fake, const void* to_low,
                     std::size_t to_bytes);
  void exit_thread(Thread& thread);
  void start_threads(std::uint64_t block_index);
  Thread* next_to_unwind();
  std::string describe_place() const;
  std::string describe_deadlock() const;

  void (*entry_)(void*) = nullptr;
  void* arguments_ = nullptr;
  dim3 grid_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_fibers_;
  std::vector<Fiber*> abandoned_fibers_;  // of threads that were abandoned
  Fiber* fiber_ = nullptr;
  Thread* current_ = nullptr;
  Fiber host_;  // the OS thread's own stack
  bool in_host_ = true;
  std::vector<int> ring_;  // threads ready to run
  std::uint32_t ring_head_ = 0, ring_count_ = 0, ring_mask_ = 0;
  unsigned char* arena_ = nullptr;
  std::size_t dynamic_bytes_ = 0, used_bytes_ = 0;
  struct Range {
    std::size_t offset, bytes;
  };
  std::vector<Range> statics_;
  std::uint64_t random_state_ = 1;
  int landing_reluctance_ = 2;  // log2 of how often a randomly landing copy is passed over; -1: always
  bool failed_ = false;
  std::string error_;
};

/// The block that this OS thread runs; null outside launches.
extern thread_local constinit Block* running_block;

/// Thrown through a thread's frames when its block has failed.
struct Unwind {};

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
std::string hex(std::uint32_t value);
std::string describe(const Location& where);
std::string describe_wait(const Thread& thread);
bool same_place(const Location& a, const Location& b);

}  // namespace redline::cuda::emulation
