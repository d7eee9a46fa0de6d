// Sixteen f32 lanes in one AVX-512 register. lanes_portable.h says what each operation means. Internal
// linkage: only translation units compiled for AVX-512 may include this.
#pragma once

#include <immintrin.h>

namespace redline::cpu {
namespace {

struct Lanes {
  static constexpr const char* kIsa = "avx512";
  static constexpr int kTileRows = 6, kAccumulators = 24;  // of 32 registers

  __m512 lanes;

  static Lanes broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, lanes); }
  static Lanes load_first(const float* p, int count) { return {_mm512_maskz_loadu_ps(mask(count), p)}; }
  void store_first(float* p, int count) const { _mm512_mask_storeu_ps(p, mask(count), lanes); }

  static Lanes even_bf16(const void* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
  }
  static Lanes odd_bf16(const void* p) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper))};
  }
  // Not vcvtneps2bf16, which flushes subnormals.
  void store_bf16(void* p) const {
    const __m512i bits = _mm512_castps_si512(lanes), upper = _mm512_srli_epi32(bits, 16);
    const __m512i is_odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i nearest =
        _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), is_odd), 16);
    const __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(lanes, lanes, _CMP_UNORD_Q);
    store_low_halves(_mm512_mask_blend_epi32(is_nan, nearest, quiet), p);
  }
  // As two of bf16: the upper half of the bits, and what that lacks, rounded. NaN stays NaN in one of them.
  void store_split(void* upper, void* lower) const {
    const __m512i bits = _mm512_castps_si512(lanes);
    const __m512i high = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
    const __m512i rest = _mm512_castps_si512(_mm512_sub_ps(lanes, _mm512_castsi512_ps(high)));
    store_low_halves(_mm512_srli_epi32(high, 16), upper);
    store_low_halves(_mm512_srli_epi32(_mm512_add_epi32(rest, _mm512_set1_epi32(0x8000)), 16), lower);
  }

  static Lanes load_int8(const void* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
  }
  static Lanes load_half(const void* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
  }
  static float half_at(const void* p) {
    short bits;
    __builtin_memcpy(&bits, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16(bits)));
  }
  static float store_half(float x, void* p) {
    const __m128i half = _mm_cvtps_ph(_mm_set_ss(x), 0);
    __builtin_memcpy(p, &half, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(half));
  }

  friend Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
  friend Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
  friend Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
  friend Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
  static Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
    return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)};
  }
  static Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }
  static Lanes min(Lanes a, Lanes b) { return {_mm512_min_ps(a.lanes, b.lanes)}; }
  static Lanes exponent_from_low_bits(Lanes x) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x.lanes), 23))};
  }
  static Lanes first(int count, Lanes x, Lanes fill) {
    return {_mm512_mask_blend_ps(mask(count), fill.lanes, x.lanes)};
  }

  float sum() const {
    const __m256 eight = _mm256_add_ps(half(0), half(1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(half(0), half(1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

 private:
  // The low 16 bits of each lane, whose upper ones are 0.
  static void store_low_halves(__m512i halves, void* p) {
    // Packing works within 128-bit halves: the permutation puts the quarters in order.
    const __m256i packed =
        _mm256_packus_epi32(_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64(halves, 1));
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  static __mmask16 mask(int count) {
    return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
  }
  __m256 half(int which) const {
    const __m512d doubles = _mm512_castps_pd(lanes);
    return _mm256_castpd_ps(which ? _mm512_extractf64x4_pd(doubles, 1) : _mm512_castpd512_pd256(doubles));
  }
};

}  // namespace
}  // namespace redline::cpu
