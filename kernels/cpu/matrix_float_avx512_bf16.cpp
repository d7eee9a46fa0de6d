#if defined(__x86_64__)
#include "kernels/cpu/matrix_float_avx512.h"

namespace redline::cpu {
namespace {

struct PairProduct {
  static __m512 add(__m512 acc, __m512 w, __m512 x) {
    __m512bh wb, xb;
    memcpy(&wb, &w, 64);
    memcpy(&xb, &x, 64);
    return _mm512_dpbf16_ps(acc, wb, xb);
  }
};

}  // namespace

constinit const MatrixKernel kBF16Avx512Bf16 =
    kernel<Float<DType::kBF16, PairProduct>>({DType::kBF16, 32, true}, ComputeType::kBF16);

}  // namespace redline::cpu
#endif
