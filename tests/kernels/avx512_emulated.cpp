// The AVX-512 kernels compiled over SIMDe, which runs them exactly, if slowly, on any machine; attention also
// over emulated tiles.
#if defined(__x86_64__)
#include "tests/kernels/simde_avx512.h"

#define kAttentionAvx512 kAttentionAvx512Emulated
#define kElementwiseAvx512 kElementwiseAvx512Emulated
#include "kernels/cpu/attention_avx512.cpp"
#include "kernels/cpu/elementwise_avx512.cpp"
#include "tests/kernels/emulated_tiles.h"

namespace redline::cpu {

extern const AttentionKernels kAttentionAmxEmulated;
const AttentionKernels kAttentionAmxEmulated = attention_kernels<Lanes, EmulatedTiles>();

}  // namespace redline::cpu
#endif
