// 512-bit loops with BF16 and VNNI. Twenty-four independent sums; an empty asm keeps each in its register.
#include <immintrin.h>

#include "kernels/cpu/ceiling_loops.h"

namespace redline::cpu {
namespace {

// Runs step(sum) on 24 sums that start at `zero`, `iterations` times; returns them added up by `add`.
template <class Vector, class Step, class Add>
[[gnu::always_inline]] inline Vector chains(std::int64_t iterations, Vector zero, Step&& step, Add&& add) {
  Vector s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero, s8 = zero,
         s9 = zero, s10 = zero, s11 = zero, s12 = zero, s13 = zero, s14 = zero, s15 = zero, s16 = zero,
         s17 = zero, s18 = zero, s19 = zero, s20 = zero, s21 = zero, s22 = zero, s23 = zero;
  const auto pinned = [&](Vector& sum) {
    sum = step(sum);
    __asm__ volatile("" : "+v"(sum));
  };
  const auto each = [](auto&& f, auto&... sums) __attribute__((always_inline)) { (f(sums), ...); };
  for (std::int64_t i = 0; i < iterations; ++i)
    each(pinned, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19,
         s20, s21, s22, s23);
  Vector total = zero;
  each([&](const Vector& sum) { total = add(total, sum); }, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11,
       s12, s13, s14, s15, s16, s17, s18, s19, s20, s21, s22, s23);
  return total;
}

std::int64_t fp32_loop(std::int64_t iterations) {
  const __m512 factor = _mm512_set1_ps(1.0000001f), addend = _mm512_set1_ps(1e-9f);
  const __m512 total = chains(
      iterations, _mm512_setzero_ps(), [&](__m512 sum) { return _mm512_fmadd_ps(sum, factor, addend); },
      [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  return static_cast<std::int64_t>(_mm512_cvtss_f32(total));
}

std::int64_t bf16_loop(std::int64_t iterations) {
  const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(2e-3f));
  const __m512 total = chains(
      iterations, _mm512_setzero_ps(), [&](__m512 sum) { return _mm512_dpbf16_ps(sum, x, x); },
      [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  return static_cast<std::int64_t>(_mm512_cvtss_f32(total));
}

std::int64_t int16_loop(std::int64_t iterations) {
  const __m512i x = _mm512_set1_epi16(3);
  const __m512i total = chains(
      iterations, _mm512_setzero_si512(), [&](__m512i sum) { return _mm512_dpwssd_epi32(sum, x, x); },
      [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
  return _mm512_cvtsi512_si32(total);
}

std::int64_t int8_loop(std::int64_t iterations) {
  const __m512i x = _mm512_set1_epi8(3);
  const __m512i total = chains(
      iterations, _mm512_setzero_si512(), [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, x, x); },
      [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
  return _mm512_cvtsi512_si32(total);
}

// A register of each of eight lines in flight.
std::int64_t read_loop(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t kAhead = 1024;
  const __m512i zero = _mm512_setzero_si512();
  __m512i s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero;
  const auto step = [](__m512i& sum, const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
    sum = _mm512_xor_si512(sum, _mm512_load_si512(at));
  };
  for (std::size_t i = 0; i < bytes; i += 512) {
    const std::byte* at = data + i;
    step(s0, at);
    step(s1, at + 64);
    step(s2, at + 128);
    step(s3, at + 192);
    step(s4, at + 256);
    step(s5, at + 320);
    step(s6, at + 384);
    step(s7, at + 448);
  }
  const __m512i low = _mm512_xor_si512(_mm512_xor_si512(s0, s1), _mm512_xor_si512(s2, s3));
  const __m512i high = _mm512_xor_si512(_mm512_xor_si512(s4, s5), _mm512_xor_si512(s6, s7));
  return _mm512_cvtsi512_si32(_mm512_xor_si512(low, high));
}

}  // namespace

const CeilingLoops& avx512_ceilings() {
  static const CeilingLoops kLoops = {"avx512",
                                      {{ComputeType::kF32, 24 * 32, fp32_loop},
                                       {ComputeType::kBF16, 24 * 64, bf16_loop},
                                       {ComputeType::kInt16, 24 * 64, int16_loop},
                                       {ComputeType::kInt8, 24 * 128, int8_loop}},
                                      4,
                                      read_loop};
  return kLoops;
}

}  // namespace redline::cpu
