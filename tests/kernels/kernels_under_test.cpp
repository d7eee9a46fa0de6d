#include "tests/kernels/kernels_under_test.h"

namespace redline {
namespace cpu {
extern const AttentionKernels kAttentionAvx512Emulated;
extern const ElementwiseKernels kElementwiseAvx512Emulated;
}  // namespace cpu

const std::vector<cpu::KernelTable>& kernels_under_test() {
  static const std::vector<cpu::KernelTable> tables = [] {
    const cpu::KernelTable portable = {"portable",
                                       {&cpu::kF32Portable, &cpu::kF16Portable, &cpu::kBF16Portable,
                                        &cpu::kQ8_0Portable, &cpu::kQ4_0Portable, &cpu::kQ4_1Portable},
                                       &cpu::kAttentionPortable,
                                       &cpu::kElementwisePortable};
    std::vector<cpu::KernelTable> all{portable};
    const auto add = [&](const char* isa, const cpu::AttentionKernels& attention,
                         const cpu::ElementwiseKernels& elementwise) {
      all.push_back(portable);
      all.back().isa = isa;
      all.back().attention = &attention;
      all.back().elementwise = &elementwise;
    };
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      add("avx2", cpu::kAttentionAvx2, cpu::kElementwiseAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
      add("avx512", cpu::kAttentionAvx512, cpu::kElementwiseAvx512);
    add("avx512_emulated", cpu::kAttentionAvx512Emulated, cpu::kElementwiseAvx512Emulated);
#endif
    return all;
  }();
  return tables;
}

}  // namespace redline
