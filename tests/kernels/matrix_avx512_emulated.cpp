// The AVX-512 matrix kernels compiled over SIMDe, with AVX2 and fma of the machine's own.
#if defined(__x86_64__)
#include "tests/kernels/simde_avx512.h"

#define kFloatAvx512 kFloatAvx512Emulated
#define kBF16Avx512Bf16 kBF16Avx512Bf16Emulated
#define kQuantizedAvx512Vnni kQuantizedAvx512VnniEmulated
#include "kernels/cpu/matrix_float_avx512.cpp"
#include "kernels/cpu/matrix_float_avx512_bf16.cpp"
#include "kernels/cpu/matrix_quantized_avx512_vnni.cpp"
#endif
