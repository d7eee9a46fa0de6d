// 512-bit loops in fp32, and of reads. Twenty-four independent sums.
#include "kernels/cpu/ceiling_chains.h"

namespace redline::cpu {
namespace {

std::int64_t fp32_loop(std::int64_t iterations) {
  const __m512 factor = _mm512_set1_ps(1.0000001f), addend = _mm512_set1_ps(1e-9f);
  const __m512 total = chains<24>(
      iterations, _mm512_setzero_ps(), [&](__m512 sum) { return _mm512_fmadd_ps(sum, factor, addend); },
      [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  return static_cast<std::int64_t>(_mm512_cvtss_f32(total));
}

}  // namespace

constinit const ComputeLoop kFp32LoopAvx512 = {ComputeType::kF32, 24 * 32, fp32_loop};

// A register of each of eight lines in flight.
std::int64_t read_loop_avx512(const std::byte* data, std::size_t bytes) {
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

}  // namespace redline::cpu
