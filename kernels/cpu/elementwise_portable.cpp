#include "kernels/cpu/elementwise_kernel.h"
#include "kernels/cpu/lanes_portable.h"

namespace redline::cpu {

const ElementwiseKernels kElementwisePortable = {
    Elementwise<Lanes>::rms_norm, Elementwise<Lanes>::add_rms_norm, Elementwise<Lanes>::rms_norm_add,
    Elementwise<Lanes>::silu_mul, Elementwise<Lanes>::rope_and_store};

}  // namespace redline::cpu
