// The kernels of AVX2 with VNNI compiled for AVX2: the instruction that it lacks is the exact sum of products
// that it would compute.
#if defined(__x86_64__)
#include <immintrin.h>

namespace redline::emulated {

inline __m256i dpbusd(__m256i sums, __m256i u, __m256i a) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(a, 8));
  return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
}

}  // namespace redline::emulated
#define _mm256_dpbusd_avx_epi32(sums, u, a) redline::emulated::dpbusd(sums, u, a)

#define kQuantizedAvx2Vnni kQuantizedAvx2VnniEmulated
#include "kernels/cpu/matrix_quantized_avx2_vnni.cpp"
#endif
