// Large matrix products: cuBLASLt on a GPU, a plain kernel under emulation.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/handles.h"
#include "kernels/dtype.h"

namespace redline::cuda {

/// out[M, N] = x[M, K] weight[N, K]^T, accumulated in f32. Rows of out and x are `out_stride` and `x_stride`
/// elements apart; weight is contiguous. x and weight are of `type` (bf16 or f32; f32 is not rounded to
/// tf32), out of `out_type` (`type` or f32).
struct GemmArgs {
  void* out = nullptr;
  const void* x = nullptr;
  const void* weight = nullptr;
  DType type = DType::kBF16;
  DType out_type = DType::kBF16;
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t out_stride = 0, x_stride = 0;
};

/// One library handle, its workspace and the algorithms chosen so far. Not thread-safe.
class Gemm {
 public:
  /// Throws std::runtime_error naming the library where it is not found.
  Gemm();
  ~Gemm();
  /// Launches on `stream`. A shape's first run chooses its algorithm, which a capture must not see.
  void run(const GemmArgs& args, const Stream& stream);

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace redline::cuda
