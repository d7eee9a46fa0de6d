// The AVX-512 matrix kernels compiled over SIMDe, with AVX2 and fma of the machine's own.
#if defined(__x86_64__)
#include "tests/kernels/simde_avx512.h"

#define kF32Avx512 kF32Avx512Emulated
#define kF16Avx512 kF16Avx512Emulated
#define kBF16Avx512 kBF16Avx512Emulated
#define kQ8_0Avx512 kQ8_0Avx512Emulated
#define kQ4_0Avx512 kQ4_0Avx512Emulated
#define kQ4_1Avx512 kQ4_1Avx512Emulated
#define kQ5_0Avx512 kQ5_0Avx512Emulated
#define kQ5_1Avx512 kQ5_1Avx512Emulated
#define kQ2_KAvx512 kQ2_KAvx512Emulated
#define kQ3_KAvx512 kQ3_KAvx512Emulated
#define kQ4_KAvx512 kQ4_KAvx512Emulated
#define kQ5_KAvx512 kQ5_KAvx512Emulated
#define kQ6_KAvx512 kQ6_KAvx512Emulated
#define kIQ4_NLAvx512 kIQ4_NLAvx512Emulated
#define kIQ4_XSAvx512 kIQ4_XSAvx512Emulated
#define kMXFP4Avx512 kMXFP4Avx512Emulated
#include "kernels/cpu/matrix_float_avx512.cpp"
#include "kernels/cpu/matrix_quantized_avx512.cpp"
#endif
