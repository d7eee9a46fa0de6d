#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/lanes_portable.h"

namespace redline::cpu {

const AttentionKernels kAttentionPortable = {Attention<Lanes>::attend_segments, Attention<Lanes>::finish};

}  // namespace redline::cpu
