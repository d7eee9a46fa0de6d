// The race check: happens-before by CUDA's rules, uninitialised reads, and early reads of asynchronous
// copies.
//
// It is on in programs whose kernels are compiled with -fsanitize=thread but which are not linked with
// libtsan: the calls that the compiler plants then arrive in race_hooks.cpp. __syncthreads, named barriers,
// __syncwarp and mbarriers order memory; shuffles, votes, mma and ldmatrix do not. Blocks run one at a time
// then. Internal to the emulation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/emulation/emulation.h"

namespace redline::cuda::emulation {

class Block;

namespace race {

/// Set before main() where any object of the program is instrumented.
extern bool enabled;

/// The thread index that stands for the copy engines: bulk and tensor copies, and wgmma's reads.
inline constexpr int kAsyncProxy = -1;

enum class Access { kRead, kWrite, kAtomicRead, kAtomicWrite };

/// Held while a grid runs: starts a new epoch for global memory, and keeps other launches away.
class Launch {
 public:
  /// `dependent`: the grid before may still run, until a thread has noted that it waited.
  explicit Launch(bool dependent);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
};
void begin_block(Block& block, std::uint64_t block_index);

/// What the grids before did is seen by the thread from here on.
void note_wait(int thread);
/// What all live threads of the block, or some lanes of a warp, did is seen by all of them from here on.
void join_all(Block& block);
void join_lanes(int warp, std::uint32_t mask);
/// Through an object (an mbarrier, a named barrier): what `thread` did so far becomes part of its current
/// phase; the phase completes; `thread` sees what the last completed phase holds.
void release_to(int thread, const void* object);
void complete_phase(const void* object);
void acquire_from(int thread, const void* object);

/// `what` and `where` name an access by the emulation itself, `pc` one by compiled code.
void access_as(int thread, const void* data, std::size_t bytes, Access access, const void* pc,
               const char* what, const Location* where);
/// From the issue of a copy into shared memory until it is done, its destination is off limits.
void async_issue(int thread, const void* destination, std::size_t bytes, const Location& where);
void async_done(int thread, const void* destination, std::size_t bytes);

}  // namespace race
}  // namespace redline::cuda::emulation
