// The AVX-512 kernels compiled over SIMDe, which runs them exactly, if slowly, on any machine.
#if defined(__x86_64__)
#include <immintrin.h>  // before its names become macros

#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

namespace {

// What SIMDe 0.7.4 lacks.
void masked_store(float* to, unsigned mask, simde__m512 x) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, x);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) to[i] = lanes[i];
}

simde__m512 masked_load(unsigned mask, const float* from) {
  float lanes[16] = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) lanes[i] = from[i];
  return simde_mm512_loadu_ps(lanes);
}

}  // namespace
#define _mm512_maskz_loadu_ps(mask, from) masked_load(mask, from)
#define _mm512_mask_storeu_ps(to, mask, x) masked_store(to, mask, x)

#define kAttentionAvx512 kAttentionAvx512Emulated
#define kElementwiseAvx512 kElementwiseAvx512Emulated
#include "kernels/cpu/attention_avx512.cpp"
#include "kernels/cpu/elementwise_avx512.cpp"
#endif
