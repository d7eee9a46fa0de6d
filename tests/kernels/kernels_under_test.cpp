#include "tests/kernels/kernels_under_test.h"

#include <algorithm>

#include "kernels/cpu/cpu_isa.h"

namespace redline {
namespace cpu {
extern const MatrixKernel kQuantizedAvx2VnniEmulated[kNumQuantizedTypes];
extern const MatrixKernel kFloatAvx512Emulated[kNumFloatTypes], kBF16Avx512Bf16Emulated,
    kQuantizedAvx512VnniEmulated[kNumQuantizedTypes];
extern const MatrixKernel kBF16AmxEmulated, kQuantizedAmxEmulated[kNumQuantizedTypes];
extern const AttentionKernels kAttentionAvx512Emulated, kAttentionAmxEmulated;
extern const ElementwiseKernels kElementwiseAvx512Emulated;

namespace {

#if defined(__x86_64__)
constexpr KernelTable kAvx2Vnni = with_matrices({.isa = "avx2_vnni_emulated",
                                                 .attention = &kAttentionAvx2,
                                                 .elementwise = &kElementwiseAvx2,
                                                 .ceilings = {}},
                                                kFloatAvx2, &kFloatAvx2[2], kQuantizedAvx2VnniEmulated);
constexpr KernelTable kAvx512 = with_matrices({.isa = "avx512_emulated",
                                               .attention = &kAttentionAvx512Emulated,
                                               .elementwise = &kElementwiseAvx512Emulated,
                                               .ceilings = {}},
                                              kFloatAvx512Emulated, &kFloatAvx512Emulated[2], kQuantizedAvx2);
constexpr KernelTable kAvx512Bf16 =
    with_matrices({.isa = "avx512_bf16_emulated",
                   .attention = &kAttentionAvx512Emulated,
                   .elementwise = &kElementwiseAvx512Emulated,
                   .ceilings = {}},
                  kFloatAvx512Emulated, &kBF16Avx512Bf16Emulated, kQuantizedAvx512VnniEmulated);
constexpr KernelTable kAmx = with_matrices({.isa = "avx512_amx_emulated",
                                            .attention = &kAttentionAmxEmulated,
                                            .elementwise = &kElementwiseAvx512Emulated,
                                            .ceilings = {}},
                                           kFloatAvx512Emulated, &kBF16AmxEmulated, kQuantizedAmxEmulated);
#endif

}  // namespace
}  // namespace cpu

const std::vector<cpu::KernelTable>& kernels_under_test() {
  static const std::vector<cpu::KernelTable> tables = [] {
    const auto usable = cpu::usable_kernels();
    std::vector<cpu::KernelTable> all(usable.rbegin(), usable.rend());
#if defined(__x86_64__)
    const auto is_avx2 = [](const cpu::KernelTable& kernels) { return name_of(kernels) == "avx2"; };
    if (std::any_of(all.begin(), all.end(), is_avx2))
      all.insert(all.end(), {cpu::kAvx2Vnni, cpu::kAvx512, cpu::kAvx512Bf16, cpu::kAmx});
#endif
    return all;
  }();
  return tables;
}

}  // namespace redline
