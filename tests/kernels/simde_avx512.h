// AVX-512 intrinsics on any machine: SIMDe's, and what its version 0.7.4 lacks. Included before a kernel's
// source.
#pragma once

#include <immintrin.h>  // before its names become macros

#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#pragma GCC diagnostic pop

namespace redline::simde {

inline void masked_store(float* to, unsigned mask, simde__m512 x) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, x);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) to[i] = lanes[i];
}

inline simde__m512 masked_load(unsigned mask, const float* from) {
  float lanes[16] = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) lanes[i] = from[i];
  return simde_mm512_loadu_ps(lanes);
}

inline simde__m512 half_to_float(simde__m256i halves) {
  simde__m512_private out;
  const simde__m256i_private in = simde__m256i_to_private(halves);
  out.m256[0] = simde_mm256_cvtph_ps(in.m128i[0]);
  out.m256[1] = simde_mm256_cvtph_ps(in.m128i[1]);
  return simde__m512_from_private(out);
}

inline simde__m512 int32_to_float(simde__m512i integers) {
  simde__m512_private out;
  const simde__m512i_private in = simde__m512i_to_private(integers);
  for (int i = 0; i < 16; ++i) out.f32[i] = static_cast<float>(in.i32[i]);
  return simde__m512_from_private(out);
}

template <class Integers>
inline simde__m512i widened(const Integers& integers) {
  simde__m512i_private out;
  for (int i = 0; i < 16; ++i) out.i32[i] = integers[i];
  return simde__m512i_from_private(out);
}
inline simde__m512i widened_u16(simde__m256i integers) {
  return widened(simde__m256i_to_private(integers).u16);
}
inline simde__m512i widened_i8(simde__m128i integers) {
  return widened(simde__m128i_to_private(integers).i8);
}
inline simde__m512i widened_u8(simde__m128i integers) {
  return widened(simde__m128i_to_private(integers).u8);
}

}  // namespace redline::simde
#define _mm512_maskz_loadu_ps(mask, from) redline::simde::masked_load(mask, from)
#define _mm512_mask_storeu_ps(to, mask, x) redline::simde::masked_store(to, mask, x)
#undef _mm512_cvtph_ps
#undef _mm512_cvtepi32_ps
#define _mm512_cvtph_ps(halves) redline::simde::half_to_float(halves)
#define _mm512_cvtepi32_ps(integers) redline::simde::int32_to_float(integers)
#define _mm512_cvtepu16_epi32(integers) redline::simde::widened_u16(integers)
#define _mm512_cvtepu8_epi32(integers) redline::simde::widened_u8(integers)
#define _mm512_cvtepi8_epi32(integers) redline::simde::widened_i8(integers)
