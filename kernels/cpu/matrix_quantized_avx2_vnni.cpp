#if defined(__x86_64__)
#include "kernels/cpu/matrix_quantized_vnni.h"

namespace redline::cpu {
namespace {

// Four rows: sixteen registers hold their integer sums, a quad of weights and one of activations.
struct Avx2Vnni : Avx2 {
  static constexpr int kTile = 4;
  static Int dot_bytes(Int sums, Int u, Int a) { return _mm256_dpbusd_avx_epi32(sums, u, a); }
};

}  // namespace

constinit const MatrixKernel kQuantizedAvx2Vnni[kNumQuantizedTypes] = {
    quantized<Avx2Vnni, DType::kQ8_0>(),   quantized<Avx2Vnni, DType::kQ4_0>(),
    quantized<Avx2Vnni, DType::kQ4_1>(),   quantized<Avx2Vnni, DType::kQ5_0>(),
    quantized<Avx2Vnni, DType::kQ5_1>(),   quantized<Avx2Vnni, DType::kQ2_K>(),
    quantized<Avx2Vnni, DType::kQ3_K>(),   quantized<Avx2Vnni, DType::kQ4_K>(),
    quantized<Avx2Vnni, DType::kQ5_K>(),   quantized<Avx2Vnni, DType::kQ6_K>(),
    quantized<Avx2Vnni, DType::kIQ4_NL>(), quantized<Avx2Vnni, DType::kIQ4_XS>(),
    quantized<Avx2Vnni, DType::kMXFP4>(),
};

}  // namespace redline::cpu
#endif
