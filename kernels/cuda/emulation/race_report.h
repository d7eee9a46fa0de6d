// How the race check names threads and places. Internal to the emulation.
#pragma once

#include <string>

#include "kernels/cuda/emulation/emulation.h"

namespace redline::cuda::emulation::race {

/// Where an access was made: by the emulation itself (`what` at `where`), or by compiled code at `pc`.
struct Place {
  const void* pc = nullptr;
  const char* what = nullptr;
  Location where;
};

/// " [place]", a compiled one as file:line, through what it was inlined into.
std::string describe(const Place& place);
/// `thread` is the block's number of threads for the copy engines.
std::string name(int thread, int num_threads);

}  // namespace redline::cuda::emulation::race
