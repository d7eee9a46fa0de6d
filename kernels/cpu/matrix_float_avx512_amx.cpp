#if defined(__x86_64__)
#include "kernels/cpu/matrix_float_amx.h"

namespace redline::cpu {

constinit const MatrixKernel kBF16Avx512Amx = bf16_amx<AmxTiles>();

}  // namespace redline::cpu
#endif
