// AVX-512 with VNNI as matrix_quantized_vnni.h asks for it. Internal linkage.
#pragma once

#include "kernels/cpu/matrix_quantized_vnni.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

// Six rows: twelve integer and twelve fp32 sums of 32 registers.
struct Avx512Vnni : Avx512 {
  static constexpr int kTile = 6;
  static Int dot_bytes(Int sums, Int u, Int a) { return _mm512_dpbusd_epi32(sums, u, a); }
};

}  // namespace
}  // namespace redline::cpu
