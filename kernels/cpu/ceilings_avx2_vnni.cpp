// 256-bit loops with VNNI. Twelve independent sums.
#include "kernels/cpu/ceiling_chains.h"

namespace redline::cpu {
namespace {

std::int64_t int16_loop(std::int64_t iterations) {
  const __m256i x = _mm256_set1_epi16(3);
  const __m256i total = chains<12>(
      iterations, _mm256_setzero_si256(), [&](__m256i sum) { return _mm256_dpwssd_avx_epi32(sum, x, x); },
      [](__m256i a, __m256i b) { return _mm256_add_epi32(a, b); });
  return _mm256_extract_epi32(total, 0);
}

std::int64_t int8_loop(std::int64_t iterations) {
  const __m256i x = _mm256_set1_epi8(3);
  const __m256i total = chains<12>(
      iterations, _mm256_setzero_si256(), [&](__m256i sum) { return _mm256_dpbusd_avx_epi32(sum, x, x); },
      [](__m256i a, __m256i b) { return _mm256_add_epi32(a, b); });
  return _mm256_extract_epi32(total, 0);
}

}  // namespace

constinit const ComputeLoop kInt16LoopAvx2Vnni = {ComputeType::kInt16, 12 * 32, int16_loop};
constinit const ComputeLoop kInt8LoopAvx2Vnni = {ComputeType::kInt8, 12 * 64, int8_loop};

}  // namespace redline::cpu
