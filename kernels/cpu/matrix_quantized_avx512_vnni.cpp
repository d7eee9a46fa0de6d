#if defined(__x86_64__)
#include "kernels/cpu/simd_avx512_vnni.h"

namespace redline::cpu {

constinit const MatrixKernel kQuantizedAvx512Vnni[kNumQuantizedTypes] = {
    quantized<Avx512Vnni, DType::kQ8_0>(),   quantized<Avx512Vnni, DType::kQ4_0>(),
    quantized<Avx512Vnni, DType::kQ4_1>(),   quantized<Avx512Vnni, DType::kQ5_0>(),
    quantized<Avx512Vnni, DType::kQ5_1>(),   quantized<Avx512Vnni, DType::kQ2_K>(),
    quantized<Avx512Vnni, DType::kQ3_K>(),   quantized<Avx512Vnni, DType::kQ4_K>(),
    quantized<Avx512Vnni, DType::kQ5_K>(),   quantized<Avx512Vnni, DType::kQ6_K>(),
    quantized<Avx512Vnni, DType::kIQ4_NL>(), quantized<Avx512Vnni, DType::kIQ4_XS>(),
    quantized<Avx512Vnni, DType::kMXFP4>(),
};

}  // namespace redline::cpu
#endif
