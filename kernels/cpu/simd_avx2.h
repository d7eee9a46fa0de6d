// Small vector functions that the AVX2 kernels share. Included only by *_avx2.cpp; everything has internal
// linkage, so no AVX2 code can serve a machine without it.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace redline::cpu {
namespace {

inline __m256 load_half8(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

inline __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

/// Requires p to be 32-byte aligned.
inline void store_256(void* p, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

/// Makes the compiler keep this very value: else GCC re-associates sums of products, keeps every product
/// alive and spills them all.
inline void pin(__m256i& v) { __asm__("" : "+x"(v)); }

/// Four bytes at p in every 32-bit lane.
inline __m256i broadcast_quad(const void* p) {
  int quad;
  memcpy(&quad, p, 4);
  return _mm256_set1_epi32(quad);
}

/// e^x within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by the Taylor-like minimax of degree 6. Exactly
/// 0 below -87.33 (and for -infinity); saturates above 88.37; NaN stays NaN.
inline __m256 exp8(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(-87.33f);
  const __m256 clamped = _mm256_max_ps(lowest, _mm256_min_ps(_mm256_set1_ps(88.37f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), clamped);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, lowest, _CMP_LT_OQ), p);
}

/// silu(gate) * up, silu(x) = x / (1 + e^-x).
inline __m256 silu_mul8(__m256 gate, __m256 up) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 negated = _mm256_xor_ps(gate, _mm256_set1_ps(-0.0f));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(one, exp8(negated))), up);
}

/// Stores the first `count` of 8 lanes.
inline void store_first(float* to, __m256 value, int64_t count) {
  if (count >= 8) {
    _mm256_storeu_ps(to, value);
  } else if (count > 0) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane), value);
  }
}

}  // namespace
}  // namespace redline::cpu
