#if defined(__x86_64__)
#include "kernels/cpu/matrix_float_avx512.h"

namespace redline::cpu {
namespace {

template <DType kType>
constexpr MatrixKernel floats() {
  return kernel<Float<kType>>({kType, 32}, ComputeType::kF32);
}

}  // namespace

constinit const MatrixKernel kFloatAvx512[kNumFloatTypes] = {floats<DType::kF32>(), floats<DType::kF16>(),
                                                             floats<DType::kBF16>()};

}  // namespace redline::cpu
#endif
