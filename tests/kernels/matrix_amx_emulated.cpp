// AMX's matrix kernels over tiles of our own, the rest over SIMDe.
#if defined(__x86_64__)
// In this order.
#include "tests/kernels/simde_avx512.h"
//
#include "kernels/cpu/matrix_float_amx.h"
#include "kernels/cpu/matrix_quantized_amx.h"
#include "tests/kernels/emulated_tiles.h"

namespace redline::cpu {

extern const MatrixKernel kBF16AmxEmulated, kQuantizedAmxEmulated[kNumQuantizedTypes];

constinit const MatrixKernel kBF16AmxEmulated = bf16_amx<EmulatedTiles>();
constinit const MatrixKernel kQuantizedAmxEmulated[kNumQuantizedTypes] = {
    quantized_amx<EmulatedTiles, DType::kQ8_0>(),   quantized_amx<EmulatedTiles, DType::kQ4_0>(),
    quantized_amx<EmulatedTiles, DType::kQ4_1>(),   quantized_amx<EmulatedTiles, DType::kQ5_0>(),
    quantized_amx<EmulatedTiles, DType::kQ5_1>(),   quantized_amx<EmulatedTiles, DType::kQ2_K>(),
    quantized_amx<EmulatedTiles, DType::kQ3_K>(),   quantized_amx<EmulatedTiles, DType::kQ4_K>(),
    quantized_amx<EmulatedTiles, DType::kQ5_K>(),   quantized_amx<EmulatedTiles, DType::kQ6_K>(),
    quantized_amx<EmulatedTiles, DType::kIQ4_NL>(), quantized_amx<EmulatedTiles, DType::kIQ4_XS>(),
    quantized_amx<EmulatedTiles, DType::kMXFP4>(),
};

}  // namespace redline::cpu
#endif
