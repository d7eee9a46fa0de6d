// Which instruction set to run: the widest that the machine has, unless the caller or REDLINE_ISA names one.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"

namespace redline {
namespace {

constexpr cpu::KernelTable kPortable = {
    "portable",
    {&cpu::kF32Portable, &cpu::kF16Portable, &cpu::kBF16Portable, &cpu::kQ8_0Portable, &cpu::kQ4_0Portable,
     &cpu::kQ4_1Portable, &cpu::kQ5_0Portable, &cpu::kQ5_1Portable, &cpu::kQ2_KPortable, &cpu::kQ3_KPortable,
     &cpu::kQ4_KPortable, &cpu::kQ5_KPortable, &cpu::kQ6_KPortable, &cpu::kIQ4_NLPortable,
     &cpu::kIQ4_XSPortable, &cpu::kMXFP4Portable, &cpu::kF8E4M3Portable},
    &cpu::kAttentionPortable,
    &cpu::kElementwisePortable};
#if defined(__x86_64__)
constexpr cpu::KernelTable kAvx2 = {
    "avx2",
    {&cpu::kF32Avx2, &cpu::kF16Avx2, &cpu::kBF16Avx2, &cpu::kQ8_0Avx2, &cpu::kQ4_0Avx2, &cpu::kQ4_1Avx2,
     &cpu::kQ5_0Avx2, &cpu::kQ5_1Avx2, &cpu::kQ2_KAvx2, &cpu::kQ3_KAvx2, &cpu::kQ4_KAvx2, &cpu::kQ5_KAvx2,
     &cpu::kQ6_KAvx2, &cpu::kIQ4_NLAvx2, &cpu::kIQ4_XSAvx2, &cpu::kMXFP4Avx2, &cpu::kF8E4M3Portable},
    &cpu::kAttentionAvx2,
    &cpu::kElementwiseAvx2};
constexpr cpu::KernelTable kAvx512 = {
    "avx512",
    {&cpu::kF32Avx512, &cpu::kF16Avx512, &cpu::kBF16Avx512, &cpu::kQ8_0Avx512, &cpu::kQ4_0Avx512,
     &cpu::kQ4_1Avx512, &cpu::kQ5_0Avx512, &cpu::kQ5_1Avx512, &cpu::kQ2_KAvx512, &cpu::kQ3_KAvx512,
     &cpu::kQ4_KAvx512, &cpu::kQ5_KAvx512, &cpu::kQ6_KAvx512, &cpu::kIQ4_NLAvx512, &cpu::kIQ4_XSAvx512,
     &cpu::kMXFP4Avx512, &cpu::kF8E4M3Portable},
    &cpu::kAttentionAvx512,
    &cpu::kElementwiseAvx512};
#endif

// Those that this machine can run, widest first.
std::vector<const cpu::KernelTable*> usable_tables() {
  std::vector<const cpu::KernelTable*> tables;
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // clang's builtin does not know f16c
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  if (avx2 && avx512) tables.push_back(&kAvx512);
  if (avx2) tables.push_back(&kAvx2);
#endif
  tables.push_back(&kPortable);
  return tables;
}

const cpu::KernelTable& choose_table(const std::string& isa) {
  const auto tables = usable_tables();
  if (isa.empty()) return *tables.front();
  std::string known;
  for (const auto* table : tables) {
    if (isa == table->isa) return *table;
    known += (known.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw std::invalid_argument("instruction set \"" + isa + "\" was asked for; this machine has " + known);
}

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  std::string isa = options.isa;
  if (const char* named = std::getenv("REDLINE_ISA"); isa.empty() && named) isa = named;
  if (options.threads < 0)
    throw std::invalid_argument("threads must be 0 (all cores) or more; " + std::to_string(options.threads) +
                                " were asked for");
  const int threads = options.threads > 0 ? options.threads : default_num_threads();
  return std::make_unique<CpuOps>(choose_table(isa), threads);
}

}  // namespace redline
