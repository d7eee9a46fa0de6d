#if defined(__x86_64__)
#include "kernels/cpu/matrix_quantized_vnni.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

// Six rows: twelve integer and twelve fp32 sums of 32 registers.
struct Avx512Vnni : Avx512 {
  static constexpr int kTile = 6;
  static Int dot_bytes(Int sums, Int u, Int a) { return _mm512_dpbusd_epi32(sums, u, a); }
};

}  // namespace

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
