#if defined(__x86_64__)
#include "kernels/cpu/matrix_quantized_amx.h"

namespace redline::cpu {

constinit const MatrixKernel kQuantizedAvx512Amx[kNumQuantizedTypes] = {
    quantized_amx<AmxTiles, DType::kQ8_0>(),   quantized_amx<AmxTiles, DType::kQ4_0>(),
    quantized_amx<AmxTiles, DType::kQ4_1>(),   quantized_amx<AmxTiles, DType::kQ5_0>(),
    quantized_amx<AmxTiles, DType::kQ5_1>(),   quantized_amx<AmxTiles, DType::kQ2_K>(),
    quantized_amx<AmxTiles, DType::kQ3_K>(),   quantized_amx<AmxTiles, DType::kQ4_K>(),
    quantized_amx<AmxTiles, DType::kQ5_K>(),   quantized_amx<AmxTiles, DType::kQ6_K>(),
    quantized_amx<AmxTiles, DType::kIQ4_NL>(), quantized_amx<AmxTiles, DType::kIQ4_XS>(),
    quantized_amx<AmxTiles, DType::kMXFP4>(),
};

}  // namespace redline::cpu
#endif
