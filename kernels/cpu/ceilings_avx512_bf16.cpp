// A 512-bit loop with BF16. Twenty-four independent sums.
#include "kernels/cpu/ceiling_chains.h"

namespace redline::cpu {
namespace {

std::int64_t bf16_loop(std::int64_t iterations) {
  const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(2e-3f));
  const __m512 total = chains<24>(
      iterations, _mm512_setzero_ps(), [&](__m512 sum) { return _mm512_dpbf16_ps(sum, x, x); },
      [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  return static_cast<std::int64_t>(_mm512_cvtss_f32(total));
}

}  // namespace

constinit const ComputeLoop kBF16LoopAvx512Bf16 = {ComputeType::kBF16, 24 * 64, bf16_loop};

}  // namespace redline::cpu
