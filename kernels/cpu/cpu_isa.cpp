// Which instruction set to run: the fastest that the machine has, unless the caller or REDLINE_ISA names one.
#include "kernels/cpu/cpu_isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstring>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"

namespace redline {
namespace cpu {
namespace {

constexpr KernelTable kPortable = with_matrices(
    {.isa = "portable",
     .attention = &kAttentionPortable,
     .elementwise = &kElementwisePortable,
     .ceilings = {{&kFp32LoopPortable, &kInt16LoopPortable, &kInt8LoopPortable}, read_loop_portable}},
    kFloatPortable, &kFloatPortable[2], kQuantizedPortable);
#if defined(__x86_64__)
// Haswell and Zen on.
constexpr KernelTable kAvx2 =
    with_matrices({.isa = "avx2",
                   .attention = &kAttentionAvx2,
                   .elementwise = &kElementwiseAvx2,
                   .ceilings = {{&kFp32LoopAvx2, &kInt16LoopAvx2, &kInt8LoopAvx2}, read_loop_avx2}},
                  kFloatAvx2, &kFloatAvx2[2], kQuantizedAvx2);
// Alder Lake on.
constexpr KernelTable kAvx2Vnni =
    with_matrices({.isa = "avx2_vnni",
                   .attention = &kAttentionAvx2,
                   .elementwise = &kElementwiseAvx2,
                   .ceilings = {{&kFp32LoopAvx2, &kInt16LoopAvx2Vnni, &kInt8LoopAvx2Vnni}, read_loop_avx2}},
                  kFloatAvx2, &kFloatAvx2[2], kQuantizedAvx2Vnni);
// Skylake's servers. Their integers run on AVX2: 512-bit maddubs would gain what the lower clock loses.
constexpr KernelTable kAvx512 =
    with_matrices({.isa = "avx512",
                   .attention = &kAttentionAvx512,
                   .elementwise = &kElementwiseAvx512,
                   .ceilings = {{&kFp32LoopAvx512, &kInt16LoopAvx2, &kInt8LoopAvx2}, read_loop_avx512}},
                  kFloatAvx512, &kFloatAvx512[2], kQuantizedAvx2);
// Cascade Lake and Ice Lake on. BF16 weights are widened and multiplied in fp32.
constexpr KernelTable kAvx512Vnni = with_matrices(
    {.isa = "avx512_vnni",
     .attention = &kAttentionAvx512,
     .elementwise = &kElementwiseAvx512,
     .ceilings = {{&kFp32LoopAvx512, &kInt16LoopAvx512Vnni, &kInt8LoopAvx512Vnni}, read_loop_avx512}},
    kFloatAvx512, &kFloatAvx512[2], kQuantizedAvx512Vnni);
// Zen 4 and Sapphire Rapids on.
constexpr KernelTable kAvx512Bf16 = with_matrices(
    {.isa = "avx512_bf16",
     .attention = &kAttentionAvx512,
     .elementwise = &kElementwiseAvx512,
     .ceilings = {{&kFp32LoopAvx512, &kBF16LoopAvx512Bf16, &kInt16LoopAvx512Vnni, &kInt8LoopAvx512Vnni},
                  read_loop_avx512}},
    kFloatAvx512, &kBF16Avx512Bf16, kQuantizedAvx512Vnni);

// Sapphire Rapids on.
constexpr KernelTable kAvx512Amx = with_matrices(
    {.isa = "avx512_amx",
     .attention = &kAttentionAvx512Amx,
     .elementwise = &kElementwiseAvx512,
     .ceilings = {{&kFp32LoopAvx512, &kBF16LoopAvx512Amx, &kInt16LoopAvx512Vnni, &kInt8LoopAvx512Amx},
                  read_loop_avx512}},
    kFloatAvx512, &kBF16Avx512Amx, kQuantizedAvx512Amx);

// Whether the processor has tiles of bf16 and int8, and the system lets this process use them.
bool may_use_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kBF16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBF16 | kTile | kInt8;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & kAll) != kAll) return false;
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// What clang's __builtin_cpu_supports does not know.
struct MoreFeatures {
  bool f16c = false, avx_vnni = false, is_amd = false;
  MoreFeatures() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx)) is_amd = ebx == signature_AMD_ebx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) f16c = ecx & bit_F16C;
    if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) avx_vnni = eax & 1u << 4;
  }
};
#endif

std::vector<KernelTable> find_usable() {
  std::vector<KernelTable> tables;
#if defined(__x86_64__)
  const MoreFeatures more;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && more.f16c;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  if (vnni && may_use_amx()) tables.push_back(kAvx512Amx);
  // On Intel's, the probe found vdpbf16ps at half the rate of fp32.
  if (bf16 && more.is_amd) tables.push_back(kAvx512Bf16);
  if (vnni) tables.push_back(kAvx512Vnni);
  if (bf16 && !more.is_amd) tables.push_back(kAvx512Bf16);
  if (avx512) tables.push_back(kAvx512);
  if (avx2 && more.avx_vnni) tables.push_back(kAvx2Vnni);
  if (avx2) tables.push_back(kAvx2);
#endif
  tables.push_back(kPortable);
  return tables;
}

}  // namespace

std::span<const KernelTable> usable_kernels() {
  static const std::vector<KernelTable> kTables = find_usable();
  return kTables;
}

const KernelTable& kernels_of(std::string_view isa) {
  const auto tables = usable_kernels();
  if (isa.empty()) return tables.front();
  std::string known;
  for (const KernelTable& table : tables) {
    if (isa == table.isa) return table;
    known += (known.empty() ? "" : ", ") + std::string(table.isa);
  }
  throw std::invalid_argument("instruction set \"" + std::string(isa) +
                              "\" was asked for; this machine has " + known);
}

}  // namespace cpu

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  std::string isa = options.isa;
  if (const char* named = std::getenv("REDLINE_ISA"); isa.empty() && named) isa = named;
  if (options.threads < 0)
    throw std::invalid_argument("threads must be 0 (all cores) or more; " + std::to_string(options.threads) +
                                " were asked for");
  const int threads = options.threads > 0 ? options.threads : default_num_threads();
  return std::make_unique<CpuOps>(cpu::kernels_of(isa), threads);
}

}  // namespace redline
