#include "tests/kernels/kernels_under_test.h"

namespace redline {
namespace cpu {
extern const MatrixKernel kF32Avx512Emulated, kF16Avx512Emulated, kBF16Avx512Emulated, kQ8_0Avx512Emulated,
    kQ4_0Avx512Emulated, kQ4_1Avx512Emulated, kQ5_0Avx512Emulated, kQ5_1Avx512Emulated, kQ2_KAvx512Emulated,
    kQ3_KAvx512Emulated, kQ4_KAvx512Emulated, kQ5_KAvx512Emulated, kQ6_KAvx512Emulated, kIQ4_NLAvx512Emulated,
    kIQ4_XSAvx512Emulated, kMXFP4Avx512Emulated;
extern const AttentionKernels kAttentionAvx512Emulated;
extern const ElementwiseKernels kElementwiseAvx512Emulated;
}  // namespace cpu

const std::vector<cpu::KernelTable>& kernels_under_test() {
  static const std::vector<cpu::KernelTable> tables = [] {
    std::vector<cpu::KernelTable> all;
    all.push_back({"portable",
                   {&cpu::kF32Portable, &cpu::kF16Portable, &cpu::kBF16Portable, &cpu::kQ8_0Portable,
                    &cpu::kQ4_0Portable, &cpu::kQ4_1Portable, &cpu::kQ5_0Portable, &cpu::kQ5_1Portable,
                    &cpu::kQ2_KPortable, &cpu::kQ3_KPortable, &cpu::kQ4_KPortable, &cpu::kQ5_KPortable,
                    &cpu::kQ6_KPortable, &cpu::kIQ4_NLPortable, &cpu::kIQ4_XSPortable, &cpu::kMXFP4Portable,
                    &cpu::kF8E4M3Portable},
                   &cpu::kAttentionPortable,
                   &cpu::kElementwisePortable});
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
      return all;
    all.push_back({"avx2",
                   {&cpu::kF32Avx2, &cpu::kF16Avx2, &cpu::kBF16Avx2, &cpu::kQ8_0Avx2, &cpu::kQ4_0Avx2,
                    &cpu::kQ4_1Avx2, &cpu::kQ5_0Avx2, &cpu::kQ5_1Avx2, &cpu::kQ2_KAvx2, &cpu::kQ3_KAvx2,
                    &cpu::kQ4_KAvx2, &cpu::kQ5_KAvx2, &cpu::kQ6_KAvx2, &cpu::kIQ4_NLAvx2, &cpu::kIQ4_XSAvx2,
                    &cpu::kMXFP4Avx2, &cpu::kF8E4M3Portable},
                   &cpu::kAttentionAvx2,
                   &cpu::kElementwiseAvx2});
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
      all.push_back(
          {"avx512",
           {&cpu::kF32Avx512, &cpu::kF16Avx512, &cpu::kBF16Avx512, &cpu::kQ8_0Avx512, &cpu::kQ4_0Avx512,
            &cpu::kQ4_1Avx512, &cpu::kQ5_0Avx512, &cpu::kQ5_1Avx512, &cpu::kQ2_KAvx512, &cpu::kQ3_KAvx512,
            &cpu::kQ4_KAvx512, &cpu::kQ5_KAvx512, &cpu::kQ6_KAvx512, &cpu::kIQ4_NLAvx512, &cpu::kIQ4_XSAvx512,
            &cpu::kMXFP4Avx512, &cpu::kF8E4M3Portable},
           &cpu::kAttentionAvx512,
           &cpu::kElementwiseAvx512});
    all.push_back({"avx512_emulated",
                   {&cpu::kF32Avx512Emulated, &cpu::kF16Avx512Emulated, &cpu::kBF16Avx512Emulated,
                    &cpu::kQ8_0Avx512Emulated, &cpu::kQ4_0Avx512Emulated, &cpu::kQ4_1Avx512Emulated,
                    &cpu::kQ5_0Avx512Emulated, &cpu::kQ5_1Avx512Emulated, &cpu::kQ2_KAvx512Emulated,
                    &cpu::kQ3_KAvx512Emulated, &cpu::kQ4_KAvx512Emulated, &cpu::kQ5_KAvx512Emulated,
                    &cpu::kQ6_KAvx512Emulated, &cpu::kIQ4_NLAvx512Emulated, &cpu::kIQ4_XSAvx512Emulated,
                    &cpu::kMXFP4Avx512Emulated, &cpu::kF8E4M3Portable},
                   &cpu::kAttentionAvx512Emulated,
                   &cpu::kElementwiseAvx512Emulated});
#endif
    return all;
  }();
  return tables;
}

}  // namespace redline
