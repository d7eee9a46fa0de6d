// The CUDA backend.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace redline {

struct CudaOptions {
  int device = 0;
  /// Of activations, and what unquantised weights are stored in: kBF16, or kF32 for small models.
  DType activation_dtype = DType::kBF16;
  /// Decode steps run as captured graphs.
  bool graphs = true;
};

/// The backend on one GPU, compute capability 8.0 or higher. Throws std::runtime_error naming the device, the
/// library or the call that is missing. Calls must come from one thread at a time.
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options = {});

/// GPUs that make_cuda_ops could use; 0 where there is no driver.
int num_cuda_devices();

}  // namespace redline
