// Small vector functions that the AVX-512 matrix kernels share. Included only by matrix_*_avx512.cpp;
// internal linkage throughout. Tests also compile these kernels over SIMDe, which runs them, slowly and
// exactly, on any machine.
#pragma once

#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

inline __m512i load_512(const void* p) { return _mm512_loadu_si512(p); }
inline void store_512(void* p, __m512i v) { _mm512_storeu_si512(p, v); }
inline __m512 load_half16(const void* p) { return _mm512_cvtph_ps(load_256(p)); }

inline __m512i broadcast_quad16(const void* p) {
  int quad;
  memcpy(&quad, p, 4);
  return _mm512_set1_epi32(quad);
}

/// acc + the two products of bf16 in every lane.
inline __m512 dot_bf16(__m512 acc, __m512 w, __m512 x) {
  __m512bh wb, xb;
  memcpy(&wb, &w, 64);
  memcpy(&xb, &x, 64);
  return _mm512_dpbf16_ps(acc, wb, xb);
}

/// The bits of x rounded to bf16, ties to even.
inline uint32_t bf16_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40;  // NaN stays NaN
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

template <int T>
inline void load_sums(const float* sums, __m512 (&acc)[T][2]) {
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t) {
    acc[t][0] = _mm512_loadu_ps(sums + 32 * t);
    acc[t][1] = _mm512_loadu_ps(sums + 32 * t + 16);
  }
}

template <int T>
inline void save_sums(float* sums, const __m512 (&acc)[T][2]) {
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t) {
    _mm512_storeu_ps(sums + 32 * t, acc[t][0]);
    _mm512_storeu_ps(sums + 32 * t + 16, acc[t][1]);
  }
}

/// Ends a product of T rows: panels of 32.
template <int T>
inline void store_sums(const LinearTask& task, int64_t panel, const __m512 (&acc)[T][2]) {
  alignas(64) float sums[T * 32];
  save_sums(sums, acc);
  for (int t = 0; t < T; ++t) store_row<32>(task, panel, t, sums + 32 * t);
}

}  // namespace
}  // namespace redline::cpu
