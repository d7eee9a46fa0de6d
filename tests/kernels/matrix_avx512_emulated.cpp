// The AVX-512 matrix kernels compiled over SIMDe, with AVX2 and fma of the machine's own.
#if defined(__x86_64__)
#include "tests/kernels/simde_avx512.h"

#define kF32Avx512 kF32Avx512Emulated
#define kF16Avx512 kF16Avx512Emulated
#define kBF16Avx512 kBF16Avx512Emulated
#define kQ8_0Avx512 kQ8_0Avx512Emulated
#define kQ4_0Avx512 kQ4_0Avx512Emulated
#define kQ4_1Avx512 kQ4_1Avx512Emulated
#include "kernels/cpu/matrix_float_avx512.cpp"
#include "kernels/cpu/matrix_int8_avx512.cpp"
#endif
