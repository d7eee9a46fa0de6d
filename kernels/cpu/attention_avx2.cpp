#if defined(__x86_64__)
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/lanes_avx2.h"

namespace redline::cpu {

const AttentionKernels kAttentionAvx2 = attention_kernels<Lanes>();

}  // namespace redline::cpu
#endif
