// Sixteen f32 lanes in two AVX registers (AVX2 and FMA). lanes_portable.h says
// what each operation means. Internal linkage: only translation units compiled
// for AVX2 may include this.
#pragma once

#include <immintrin.h>

namespace redline::cpu {
namespace {

struct Lanes {
  static constexpr const char* kIsa = "avx2";
  static constexpr int kTileRows = 6, kAccumulators = 6;  // 12 of 16 registers

  __m256 low, high;

  static Lanes broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  static Lanes load_first(const float* p, int count) {
    return {_mm256_maskload_ps(p, mask(count)), _mm256_maskload_ps(p + 8, mask(count - 8))};
  }
  void store_first(float* p, int count) const {
    _mm256_maskstore_ps(p, mask(count), low);
    _mm256_maskstore_ps(p + 8, mask(count - 8), high);
  }

  static Lanes even_bf16(const void* p) { return {even(raw(p, 0)), even(raw(p, 32))}; }
  static Lanes odd_bf16(const void* p) { return {odd(raw(p, 0)), odd(raw(p, 32))}; }
  void store_bf16(void* p) const {
    // Packing works within 128-bit halves: the permutation puts the quarters in
    // order.
    const __m256i packed = _mm256_packus_epi32(rounded(low), rounded(high));
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }

  static Lanes load_int8(const void* p) {
    const auto* bytes = static_cast<const char*>(p);
    return {widened(bytes), widened(bytes + 8)};
  }
  static Lanes load_half(const void* p) {
    const auto* halves = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
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

  friend Lanes operator+(Lanes a, Lanes b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  friend Lanes operator-(Lanes a, Lanes b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  friend Lanes operator*(Lanes a, Lanes b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  friend Lanes operator/(Lanes a, Lanes b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static Lanes min(Lanes a, Lanes b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  static Lanes exponent_from_low_bits(Lanes x) { return {exponent(x.low), exponent(x.high)}; }
  static Lanes first(int count, Lanes x, Lanes fill) {
    return {_mm256_blendv_ps(fill.low, x.low, _mm256_castsi256_ps(mask(count))),
            _mm256_blendv_ps(fill.high, x.high, _mm256_castsi256_ps(mask(count - 8)))};
  }

  float sum() const {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(low, high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

 private:
  static __m256 widened(const char* bytes) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
  }
  static __m256i mask(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i raw(const void* p, int offset) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const char*>(p) + offset));
  }
  static __m256 even(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
  static __m256 odd(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static __m256i rounded(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i is_odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i nearest =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), is_odd), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(is_nan));
  }
  static __m256 exponent(__m256 x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
  }
};

}  // namespace
}  // namespace redline::cpu
