// 256-bit loops. Twelve independent sums hide the latency of two pipes; an empty asm keeps each in its
// register.
#include <immintrin.h>

#include "kernels/cpu/ceiling_loops.h"

namespace redline::cpu {
namespace {

template <class Step, class... Sums>
[[gnu::always_inline]] inline void for_each(Step&& step, Sums&... sums) {
  (step(sums), ...);
}

std::int64_t fp32_loop(std::int64_t iterations) {
  const __m256 factor = _mm256_set1_ps(1.0000001f), addend = _mm256_set1_ps(1e-9f);
  __m256 s0 = factor, s1 = factor, s2 = factor, s3 = factor, s4 = factor, s5 = factor, s6 = factor,
         s7 = factor, s8 = factor, s9 = factor, s10 = factor, s11 = factor;
  const auto step = [&](__m256& sum) {
    sum = _mm256_fmadd_ps(sum, factor, addend);
    __asm__ volatile("" : "+x"(sum));
  };
  for (std::int64_t i = 0; i < iterations; ++i)
    for_each(step, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11);
  __m256 total = _mm256_setzero_ps();
  for_each([&](const __m256& sum) { total = _mm256_add_ps(total, sum); }, s0, s1, s2, s3, s4, s5, s6, s7, s8,
           s9, s10, s11);
  return static_cast<std::int64_t>(_mm256_cvtss_f32(total));
}

std::int64_t int16_loop(std::int64_t iterations) {
  __m256i x = _mm256_set1_epi16(3);
  const __m256i w = _mm256_set1_epi16(5), zero = _mm256_setzero_si256();
  __m256i s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero, s8 = zero,
          s9 = zero, s10 = zero, s11 = zero;
  const auto step = [&](__m256i& sum) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
    __asm__ volatile("" : "+x"(sum), "+x"(x));
  };
  for (std::int64_t i = 0; i < iterations; ++i)
    for_each(step, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11);
  __m256i total = zero;
  for_each([&](const __m256i& sum) { total = _mm256_add_epi32(total, sum); }, s0, s1, s2, s3, s4, s5, s6, s7,
           s8, s9, s10, s11);
  return _mm256_extract_epi32(total, 0);
}

// Four chains of eight maddubs summed in int16, each then widened: what 4-bit products allow.
std::int64_t int8_loop(std::int64_t iterations) {
  __m256i x = _mm256_set1_epi8(3);
  const __m256i w = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
  __m256i s0 = zero, s1 = zero, s2 = zero, s3 = zero;
  const auto step = [&](__m256i& narrow) {
    narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(x, w));
    __asm__ volatile("" : "+x"(narrow), "+x"(x));
  };
  const auto widen = [&](__m256i& sum, const __m256i& narrow) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, ones));
    __asm__ volatile("" : "+x"(sum));
  };
  for (std::int64_t i = 0; i < iterations; ++i) {
    __m256i n0 = zero, n1 = zero, n2 = zero, n3 = zero;
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) for_each(step, n0, n1, n2, n3);
    widen(s0, n0);
    widen(s1, n1);
    widen(s2, n2);
    widen(s3, n3);
  }
  return _mm256_extract_epi32(_mm256_add_epi32(_mm256_add_epi32(s0, s1), _mm256_add_epi32(s2, s3)), 0);
}

}  // namespace

constinit const ComputeLoop kFp32LoopAvx2 = {ComputeType::kF32, 12 * 16, fp32_loop};
constinit const ComputeLoop kInt16LoopAvx2 = {ComputeType::kInt16, 12 * 32, int16_loop};
constinit const ComputeLoop kInt8LoopAvx2 = {ComputeType::kInt8, 4 * 8 * 64, int8_loop};

std::int64_t read_loop_avx2(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t kAhead = 2048;
  const __m256i zero = _mm256_setzero_si256();
  __m256i s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero;
  const auto line = [](__m256i& low, __m256i& high, const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
    low = _mm256_xor_si256(low, _mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
    high = _mm256_xor_si256(high, _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32)));
  };
  for (std::size_t i = 0; i < bytes; i += 256) {
    const std::byte* at = data + i;
    line(s0, s1, at);
    line(s2, s3, at + 64);
    line(s4, s5, at + 128);
    line(s6, s7, at + 192);
  }
  const __m256i low = _mm256_xor_si256(_mm256_xor_si256(s0, s1), _mm256_xor_si256(s2, s3));
  const __m256i high = _mm256_xor_si256(_mm256_xor_si256(s4, s5), _mm256_xor_si256(s6, s7));
  return _mm256_extract_epi64(_mm256_xor_si256(low, high), 0);
}

}  // namespace redline::cpu
