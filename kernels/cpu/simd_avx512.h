// Small vector functions that the AVX-512 matrix kernels share. Included only by matrix_*_avx512*.cpp;
// internal linkage throughout. Tests also compile these kernels over SIMDe, which runs them, slowly and
// exactly, on any machine.
#pragma once

#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

inline __m512i load_512(const void* p) { return _mm512_loadu_si512(p); }
inline void store_512(void* p, __m512i v) { _mm512_storeu_si512(p, v); }
inline __m512 load_half16(const void* p) { return _mm512_cvtph_ps(load_256(p)); }

/// The vectors that codec.h reads panels of 32 rows with.
struct Avx512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kWidth = 16;
  static Int load(const void* p) { return load_512(p); }
  static Int broadcast(int x) { return _mm512_set1_epi32(x); }
  static Int shift_left(Int x, int count) { return _mm512_sllv_epi32(x, _mm512_set1_epi32(count)); }
  static Int shift_right(Int x, int count) { return _mm512_srlv_epi32(x, _mm512_set1_epi32(count)); }
  static Int sign_extend_byte(Int x) {
    const Int sign = broadcast(128);
    return _mm512_sub_epi32(_mm512_xor_si512(bit_and(x, broadcast(255)), sign), sign);
  }
  static Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Int bit_or(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int look_up(const int8_t* table, Int indices) {
    const __m128i codes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(codes), indices);
  }
  static Float as_float(Int x) { return _mm512_castsi512_ps(x); }
  static Float half_of(Float x) { return _mm512_mul_ps(x, _mm512_set1_ps(0.5f)); }
  static Float load_halves(const void* p) { return load_half16(p); }
  static Int load_u16(const void* p) { return _mm512_cvtepu16_epi32(load_256(p)); }
  static Int load_u8(const void* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }

  // For matrix_quantized_vnni.h.
  static void store(void* p, Int x) { store_512(p, x); }
  static Int broadcast_quad(const void* p) {
    int quad;
    memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
  }
  static Int flip_signs(Int bytes) { return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)); }
  static Float load_floats(const float* p) { return _mm512_load_ps(p); }
  static void store_floats(float* p, Float x) { _mm512_store_ps(p, x); }
  static Float broadcast_float(float x) { return _mm512_set1_ps(x); }
  static Float zero() { return _mm512_setzero_ps(); }
  static Float negate(Float x) { return _mm512_sub_ps(zero(), x); }
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
};

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

}  // namespace
}  // namespace redline::cpu
