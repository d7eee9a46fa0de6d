// wgmma of bf16 under nvcc: part of the device header. One specialisation for each width, written by macros
// because inline PTX names its operands by number.
//
// A warpgroup computes d (+)= a b for a [64, 16] and b [16, N], N = 8 kColumns, asynchronously until
// wgmma_wait. d[j] is the mma.m16n8k16 accumulator of columns 8 j to 8 j + 7 for the warp's 16 rows: warp w
// of the group holds rows 16 w and on. Columns of 8: 1, 2, 4, 8, 12, 16, 32.
#pragma once

#include <cstdint>

namespace redline::cuda::dev {

/// Keeps the compiler from moving reads or writes of an accumulator across this point: after the wait, and
/// before the next product.
DEV_INLINE void wgmma_hold(float& accumulator) { asm volatile("" : "+f"(accumulator)::"memory"); }
/// Gives up registers down to so many a thread, or takes that many, once others gave enough; a warpgroup.
template <int kRegisters>
DEV_INLINE void shrink_registers() {
  DEV_SM90A_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
DEV_INLINE void grow_registers() {
  DEV_SM90A_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// clang-format off
#define DEV_F1(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define DEV_F2(j) DEV_F1(j), DEV_F1((j) + 1)
#define DEV_F4(j) DEV_F2(j), DEV_F2((j) + 2)
#define DEV_F8(j) DEV_F4(j), DEV_F4((j) + 4)
#define DEV_F12(j) DEV_F8(j), DEV_F4((j) + 8)
#define DEV_F16(j) DEV_F8(j), DEV_F8((j) + 8)
#define DEV_F32(j) DEV_F16(j), DEV_F16((j) + 16)

#define DEV_D1 "%0,%1,%2,%3"
#define DEV_D2 DEV_D1 \
  ",%4,%5,%6,%7"
#define DEV_D4 DEV_D2 \
  ",%8,%9,%10,%11,%12,%13,%14,%15"
#define DEV_D8 DEV_D4 \
  ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define DEV_D12 DEV_D8 \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define DEV_D16 DEV_D12 \
  ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define DEV_D32 DEV_D16 \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95" \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

template <int kColumns, bool kBTransposed>
struct Wgmma;

// N: 8 COLUMNS. Then the numbers of the operands that follow the accumulators.
#define DEV_WGMMA(COLUMNS, N, O0, O1, O2, O3, O4, O5, O6)                                                       \
  template <bool kBTransposed>                                                                                  \
  struct Wgmma<COLUMNS, kBTransposed> {                                                                         \
    static DEV_INLINE void ss(float (&d)[COLUMNS][4], std::uint64_t a, std::uint64_t b, bool accumulate) {      \
      DEV_SM90A_ASM("{\n"                                                                                       \
                    ".reg .pred p;\n"                                                                           \
                    "setp.ne.b32 p, " O2 ", 0;\n"                                                               \
                    "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" DEV_D##COLUMNS "}, "           \
                    O0 ", " O1 ", p, 1, 1, 0, " O3 ";\n"                                                        \
                    "}"                                                                                         \
                    : DEV_F##COLUMNS(0)                                                                         \
                    : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kBTransposed)));  \
    }                                                                                                           \
    static DEV_INLINE void rs(float (&d)[COLUMNS][4], const std::uint32_t (&a)[4], std::uint64_t b,             \
                              bool accumulate) {                                                                \
      DEV_SM90A_ASM("{\n"                                                                                       \
                    ".reg .pred p;\n"                                                                           \
                    "setp.ne.b32 p, " O5 ", 0;\n"                                                               \
                    "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" DEV_D##COLUMNS "}, {"          \
                    O0 "," O1 "," O2 "," O3 "}, " O4 ", p, 1, 1, " O6 ";\n"                                     \
                    "}"                                                                                         \
                    : DEV_F##COLUMNS(0)                                                                         \
                    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),    \
                      "n"(static_cast<int>(kBTransposed)));                                                     \
    }                                                                                                           \
  };
DEV_WGMMA(1, 8, "%4", "%5", "%6", "%7", "%8", "%9", "%10")
DEV_WGMMA(2, 16, "%8", "%9", "%10", "%11", "%12", "%13", "%14")
DEV_WGMMA(4, 32, "%16", "%17", "%18", "%19", "%20", "%21", "%22")
DEV_WGMMA(8, 64, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
DEV_WGMMA(12, 96, "%48", "%49", "%50", "%51", "%52", "%53", "%54")
DEV_WGMMA(16, 128, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
DEV_WGMMA(32, 256, "%128", "%129", "%130", "%131", "%132", "%133", "%134")

#undef DEV_WGMMA
#undef DEV_F1
#undef DEV_D1
#undef DEV_F2
#undef DEV_D2
#undef DEV_F4
#undef DEV_D4
#undef DEV_F8
#undef DEV_D8
#undef DEV_F12
#undef DEV_D12
#undef DEV_F16
#undef DEV_D16
#undef DEV_F32
#undef DEV_D32
// clang-format on

/// a in shared memory, K-major. b there too: K-major, or, kBTransposed, with its N dimension contiguous.
template <bool kBTransposed = false, int kColumns>
DEV_INLINE void wgmma_ss(float (&d)[kColumns][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  Wgmma<kColumns, kBTransposed>::ss(d, a, b, accumulate);
}
/// a in registers, the A fragment of mma.m16n8k16 for the warp's 16 rows; they must not change before
/// wgmma_wait.
template <bool kBTransposed = true, int kColumns>
DEV_INLINE void wgmma_rs(float (&d)[kColumns][4], const std::uint32_t (&a)[4], std::uint64_t b,
                         bool accumulate) {
  Wgmma<kColumns, kBTransposed>::rs(d, a, b, accumulate);
}

}  // namespace redline::cuda::dev
