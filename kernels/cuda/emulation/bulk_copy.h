// Issuing bulk and tensor copies. Internal to the emulation.
#pragma once

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"

namespace redline::cuda::emulation {

/// Fails unless `mbarrier` is an initialised one in shared memory.
void check_mbarrier(const std::uint64_t* mbarrier, const char* operation);
/// Starts a copy: poisons its destination, which it reaches some time before its mbarrier's phase completes.
void issue(BulkCopy copy, const Location& where);
/// A shared address as a swizzle permutes it: an exclusive or on its bits.
std::uint32_t swizzled(std::uint32_t address, dev::Swizzle swizzle);

}  // namespace redline::cuda::emulation
