// CUDA blocks on the CPU, for tests: what the device header is built on.
//
// A CUDA thread is a fiber; a block runs to completion on one OS thread. In a warp collective each lane
// leaves a pointer to its arguments and the last lane to arrive computes for all, so shuffles, ldmatrix and
// mma are exact. What a GPU would answer with silence or with wrong numbers is an Error here: deadlocks,
// divergent barriers, shuffles from lanes outside the mask, copies never waited for, misaligned or
// out-of-bounds accesses; and in programs whose kernels are compiled with -fsanitize=thread, races (race.h).
#pragma once

#include <vector_types.h>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

struct CUstream_st;

namespace redline::cuda::emulation {

#if defined(__clang__) && __clang_major__ < 16
/// Stands for std::source_location, which libstdc++ does not offer to clang before 16.
class Location {
 public:
  static constexpr Location current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(),
                                    unsigned column = __builtin_COLUMN()) {
    Location here;
    here.file_ = file, here.line_ = line, here.column_ = column;
    return here;
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }
  constexpr unsigned column() const { return column_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0;
  unsigned column_ = 0;
};
#else
using Location = std::source_location;
#endif

/// A kernel did what no correct kernel does. The message names the block, the thread, the place and the seed.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// In which order the threads of a block run. kRandom draws one of several orders for each block.
enum class Schedule { kFifo, kReverse, kLifo, kRandom };

/// When an asynchronous copy lands, within what the ISA allows: as late as possible, at once, or as drawn.
enum class Landing { kLazy, kEager, kRandom };

/// How blocks run; read once from the environment: EMU_SCHED=fifo|reverse|lifo|random,
/// EMU_ASYNC=lazy|eager|random, EMU_SEED=n, EMU_THREADS=n. Tests may change it between launches.
struct Config {
  Schedule schedule = Schedule::kFifo;
  Landing landing = Landing::kLazy;
  std::uint64_t seed = 1;
  int num_os_threads = 0;                              // 0: one for each processor
  std::size_t shared_memory_limit_bytes = 227 * 1024;  // a Hopper block's
  std::size_t device_memory_bytes = std::size_t{4} << 30;
  int num_sms = 4;
};
Config& config();

/// What the launches so far did.
struct Stats {
  std::uint64_t blocks = 0;
  std::uint64_t threads = 0;
  std::uint64_t switches = 0;
  std::uint64_t warp_collectives = 0;
  std::uint64_t barriers = 0;
  std::uint64_t mma = 0;  // m16n8k16 products, a wgmma counted as so many of them
  std::uint64_t async_copies = 0;
  std::uint64_t ldmatrix_matrices = 0;  // 8x8 matrices loaded ...
  std::uint64_t ldmatrix_wavefronts =
      0;  // ... and passes over the banks that they took: equal without conflicts
  std::uint64_t shared_bytes_max = 0;
  void add(const Stats& other);
};
Stats& stats();

/// Ends the running block with `message`, or throws at once where no block runs.
[[noreturn]] void fail(const std::string& message);

[[noreturn]] void fail_misaligned(const Location& where);

/// Throws Error unless a Hopper device could launch this.
void check_geometry(dim3 grid, dim3 block, std::size_t dynamic_shared_bytes);
/// Runs `call(arguments)` for every thread of every block and returns when the grid has finished.
/// `dependent`: the race check takes the grids before, up to one that was not, to be still running until a
/// thread waits. Throws Error.
void launch(void (*call)(void*), void* arguments, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
            bool dependent);

/// A device lost to a failed kernel comes back; what its streams had not done yet is dropped.
void reset_device();
/// Launches on a stream: at once where `stream` is null. `dependent`: `run` starts before the launch that the
/// stream was given last, if that is still to be done.
void submit(CUstream_st* stream, std::function<void()> run, bool dependent = false);
/// Starts `dependent`, a launch, and does `prior` once one of its threads waits for it. Throws Error where
/// none does. The race check, which follows one grid at a time, sees them in order.
void launch_before(std::function<void()> prior, const std::function<void()>& dependent);
/// What a thread of such a launch waits by.
void wait_for_prior();

// Collectives -----------------------------------------------------------------------------------------------

/// Computes a collective for all lanes: `lanes[i]` is what lane i passed, null where `mask` has no bit.
using Collective = void (*)(void* const* lanes, std::uint32_t mask);
/// Waits for every lane of `mask`; one of them then runs `compute` (may be null).
void warp_collective(std::uint32_t mask, const char* operation, Collective compute, void* argument,
                     const Location& where, bool orders_memory = false);
/// The same for `num_threads` consecutive threads (a warpgroup); `compute` gets their number as its mask.
void group_collective(int num_threads, const char* operation, Collective compute, void* argument,
                      const Location& where);
/// Named barrier `id` of `num_threads` threads, 0: of the whole block. `wait` is false for bar.arrive.
void block_barrier(int id, int num_threads, bool wait, const Location& where);
enum class Reduction { kCount, kOr, kAnd };
int block_barrier_reduce(Reduction reduction, bool predicate, const Location& where);

enum class Shuffle { kIndex, kUp, kDown, kXor };
struct ShuffleArgument {
  std::uint64_t value;
  std::uint64_t result;
  int operand;
  int width;
  Shuffle mode;
};
void compute_shuffle(void* const* lanes, std::uint32_t mask);
struct VoteArgument {
  bool predicate;
  unsigned result;
};
void compute_ballot(void* const* lanes, std::uint32_t mask);
enum class WarpReduction { kAdd, kMin, kMax, kAnd, kOr, kXor };
struct WarpReduceArgument {
  unsigned value;
  unsigned result;
  WarpReduction reduction;
  bool is_signed;
};
void compute_warp_reduce(void* const* lanes, std::uint32_t mask);

// Memory ----------------------------------------------------------------------------------------------------

unsigned char* dynamic_shared();
void* allocate_static_shared(std::size_t bytes, std::size_t align);
/// Differs for every block that ever ran.
std::uint64_t block_epoch();

struct SharedSlot {
  std::uint64_t epoch;
  void* storage;
};
/// The block's instance of a __shared__ variable; each declaration passes a lambda, whose type names it.
template <class T, class Declaration>
inline T& static_shared(Declaration) {
  static thread_local constinit SharedSlot slot{0, nullptr};
  if (slot.epoch != block_epoch()) slot = {block_epoch(), allocate_static_shared(sizeof(T), alignof(T))};
  return *static_cast<T*>(slot.storage);
}

/// Tells the race check of an allocation that kernels access; `name` appears in its reports.
void register_buffer(const void* data, std::size_t bytes, const char* name);
void unregister_buffer(const void* data);
/// The host, or a copy, wrote these bytes of a registered buffer.
void mark_initialised(const void* data, std::size_t bytes);
/// Reports an access that the compiler's instrumentation does not see.
void note_access(const void* data, std::size_t bytes, bool write, bool atomic, const void* pc);
/// Whether kernels of this program are compiled for the race check.
bool race_check_enabled();

}  // namespace redline::cuda::emulation
