// Small vector functions that the AVX2 kernels share. Included only by *_avx2*.cpp and what AVX-512 adds to
// it; everything has internal linkage, so no AVX2 code can serve a machine without it.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/lanes_math.h"

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

/// Sums of T rows of a panel of 16, at 32-byte alignment.
template <int T>
inline void load_sums(const float* from, __m256 (&acc)[T][2]) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    acc[t][0] = _mm256_load_ps(from + 16 * t);
    acc[t][1] = _mm256_load_ps(from + 16 * t + 8);
  }
}
template <int T>
inline void save_sums(float* to, const __m256 (&acc)[T][2]) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    _mm256_store_ps(to + 16 * t, acc[t][0]);
    _mm256_store_ps(to + 16 * t + 8, acc[t][1]);
  }
}

/// The vectors that codec.h reads panels of 16 rows with.
struct Avx2 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kWidth = 8;
  static Int load(const void* p) { return load_256(p); }
  static Int broadcast(int x) { return _mm256_set1_epi32(x); }
  static Int shift_left(Int x, int count) { return _mm256_slli_epi32(x, count); }
  static Int shift_right(Int x, int count) { return _mm256_srli_epi32(x, count); }
  static Int sign_extend_byte(Int x) { return _mm256_srai_epi32(_mm256_slli_epi32(x, 24), 24); }
  static Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Int bit_or(Int a, Int b) { return _mm256_or_si256(a, b); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int look_up(const int8_t* table, Int indices) {
    const __m128i codes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(codes), indices);
  }
  static Float as_float(Int x) { return _mm256_castsi256_ps(x); }
  static Float half_of(Float x) { return _mm256_mul_ps(x, _mm256_set1_ps(0.5f)); }
  static Float load_halves(const void* p) { return load_half8(p); }
  static Int load_u16(const void* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static Int load_u8(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }

  // For matrix_quantized_vnni.h.
  static void store(void* p, Int x) { store_256(p, x); }
  static Int broadcast_quad(const void* p) { return cpu::broadcast_quad(p); }
  static Int flip_signs(Int bytes) { return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)); }
  static Float load_floats(const float* p) { return _mm256_load_ps(p); }
  static void store_floats(float* p, Float x) { _mm256_store_ps(p, x); }
  static Float broadcast_float(float x) { return _mm256_set1_ps(x); }
  static Float zero() { return _mm256_setzero_ps(); }
  static Float negate(Float x) { return _mm256_sub_ps(zero(), x); }
  static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }
};

/// Eight lanes for the functions of lanes_math.h: a panel's half is no wider.
struct Lanes8 {
  __m256 v;
  static Lanes8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
  friend Lanes8 operator+(Lanes8 a, Lanes8 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Lanes8 operator-(Lanes8 a, Lanes8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Lanes8 operator*(Lanes8 a, Lanes8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Lanes8 operator/(Lanes8 a, Lanes8 b) { return {_mm256_div_ps(a.v, b.v)}; }
  static Lanes8 multiply_add(Lanes8 a, Lanes8 b, Lanes8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Lanes8 max(Lanes8 a, Lanes8 b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Lanes8 min(Lanes8 a, Lanes8 b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Lanes8 exponent_from_low_bits(Lanes8 x) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.v), 23))};
  }
};

/// silu(gate) * up.
inline __m256 silu_mul8(__m256 gate, __m256 up) { return _mm256_mul_ps(silu(Lanes8{gate}).v, up); }

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
