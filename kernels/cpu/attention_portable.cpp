#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/lanes_portable.h"

namespace redline::cpu {

const AttentionKernels kAttentionPortable = attention_kernels<Lanes>();

}  // namespace redline::cpu
