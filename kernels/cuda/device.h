// The one include of every kernel file: real CUDA under nvcc, the emulation in emulation/ under a C++
// compiler. Kernels use CUDA's own spellings (threadIdx, __shfl_xor_sync, __syncthreads, atomicAdd, ...) and,
// for what CUDA has no portable spelling for, the small wrappers of namespace dev, which are the same in
// both.
#pragma once

#if defined(__CUDACC__)
#include "kernels/cuda/device_cuda.h"
#else
#include "kernels/cuda/device_emulated.h"
#endif
