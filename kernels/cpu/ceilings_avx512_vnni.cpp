// 512-bit loops with VNNI. Twenty-four independent sums.
#include "kernels/cpu/ceiling_chains.h"

namespace redline::cpu {
namespace {

std::int64_t int16_loop(std::int64_t iterations) {
  const __m512i x = _mm512_set1_epi16(3);
  const __m512i total = chains<24>(
      iterations, _mm512_setzero_si512(), [&](__m512i sum) { return _mm512_dpwssd_epi32(sum, x, x); },
      [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
  return _mm512_cvtsi512_si32(total);
}

std::int64_t int8_loop(std::int64_t iterations) {
  const __m512i x = _mm512_set1_epi8(3);
  const __m512i total = chains<24>(
      iterations, _mm512_setzero_si512(), [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, x, x); },
      [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
  return _mm512_cvtsi512_si32(total);
}

}  // namespace

constinit const ComputeLoop kInt16LoopAvx512Vnni = {ComputeType::kInt16, 24 * 64, int16_loop};
constinit const ComputeLoop kInt8LoopAvx512Vnni = {ComputeType::kInt8, 24 * 128, int8_loop};

}  // namespace redline::cpu
