#if defined(__x86_64__)
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/lanes_avx512.h"

namespace redline::cpu {

const AttentionKernels kAttentionAvx512Amx = attention_kernels<Lanes, AmxTiles>();

}  // namespace redline::cpu
#endif
