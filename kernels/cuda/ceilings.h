// The rates that a GPU attains.
#pragma once

#include "kernels/cuda/gemm.h"
#include "kernels/ledger.h"

namespace redline::cuda {

/// Reads of memory far larger than the caches, a bf16 product of 8192^3 random elements, f32 FMAs that need
/// no memory: the median of several runs each, some tens of milliseconds in all. A quarter of the memory that
/// is free is used at most, 2 GiB at most.
Peaks measure_ceilings(Gemm& gemm, const Stream& stream, int num_sms);

}  // namespace redline::cuda
