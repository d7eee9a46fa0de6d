// F32, F16 and BF16 matrices on AVX-512: in fp32, or BF16 by pairs where the machine multiplies those.
// Included only by matrix_*_avx512*.cpp; internal linkage.
//
// Formula: y = fma(w[k], x[k], y) over k in order. By pairs x is rounded to bf16 (nearest even), and
// vdpbf16ps adds two products at a time: y += w[2 j + 1] x[2 j + 1] + w[2 j] x[2 j] over j in order. One
// chain per output, the same in GEMV and GEMM.
//
// Layout: panels of 32 rows (panel_layout.h), two vectors of 16: [k][32], pairs [k / 2][32][2]. A thread
// owns whole panels. Up to 12 rows (GEMV): weights widen in registers and are read once; with few rows
// several panels at a time, because a few chains alone would wait for each sum; the limit is memory
// bandwidth. More (GEMM): a chunk of a panel stays in L1 (16-bit ones widened to f32) and meets the rows
// twelve at a time in 24 sums; the limit is two fmas or vdpbf16ps a cycle. A Xeon reaches 72 % of its fp32
// peak at 512 rows (kernel_bench); vdpbf16ps is half as fast there and has not been measured elsewhere.
#pragma once

#include "kernels/cpu/matrix_driver.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

// What a 512-bit vector of weights holds: 16 f32, or 16 pairs of bf16; an activation is 32 bits either way.
// Product::add(acc, w, x) is acc + the two products of bf16 in every lane; void: fp32.
template <DType kType, class Product = void>
struct Float {
  static constexpr bool kPairs = !std::is_void_v<Product>;
  static constexpr int kPanelRows = 32, kTile = 12, kPackedTiles = 1;
  template <int T>
  static constexpr int kPanelsAtOnce = T == 1   ? 4
                                       : T <= 3 ? 2
                                                : 1;
  static constexpr int64_t kUnit = kPairs ? 2 : 1, kMaxChunk = 256;
  static constexpr int64_t kVectorBytes = kPairs || kType == DType::kF32 ? 64 : 32;  // of 16 rows, packed
  static constexpr int64_t kUnitBytes = 2 * kVectorBytes, kRowUnitBytes = 4;
  static constexpr bool kWidens = kVectorBytes == 32;

  struct Wide {
    alignas(64) float w[kWidens ? kMaxChunk * kPanelRows : 1];
  };

  static __m512 load_weights(const std::byte* p) {
    if constexpr (!kWidens) return _mm512_loadu_ps(reinterpret_cast<const float*>(p));
    if constexpr (kType == DType::kF16) return load_half16(p);
    return _mm512_castsi512_ps(Avx512::shift_left(Avx512::load_u16(p), 16));
  }
  static __m512 add_product(__m512 acc, __m512 w, __m512 x) {
    if constexpr (kPairs) return Product::add(acc, w, x);
    return _mm512_fmadd_ps(w, x, acc);
  }

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t k) {
    for (int t = 0; t < T; ++t)
      for (int64_t i = 0; i < length; ++i) {
        const float* from = x + t * x_stride + i * kUnit;
        uint32_t unit;
        if constexpr (kPairs)
          unit = bf16_bits(from[0]) | (2 * i + 1 < k ? bf16_bits(from[1]) << 16 : 0);
        else
          memcpy(&unit, from, 4);
        memcpy(out + (i * T + t) * 4, &unit, 4);
      }
  }

  template <int T, int P>
  __attribute__((noinline)) static void multiply_packed(const std::byte* w, int64_t stride,
                                                        const std::byte* activations, int64_t length,
                                                        float* sums) {
    const auto* x = reinterpret_cast<const float*>(activations);
    __m512 acc[P][T][2];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) load_sums(sums + p * T * kPanelRows, acc[p]);
    for (int64_t u = 0; u < length; ++u, x += T, w += kUnitBytes) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        prefetch<kUnitBytes>(w + p * stride, kPrefetchBytes / P);
        const __m512 w0 = load_weights(w + p * stride);
        const __m512 w1 = load_weights(w + p * stride + kVectorBytes);
#pragma GCC unroll 12
        for (int t = 0; t < T; ++t) {
          const __m512 xt = _mm512_set1_ps(x[t]);
          acc[p][t][0] = add_product(acc[p][t][0], w0, xt);
          acc[p][t][1] = add_product(acc[p][t][1], w1, xt);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) save_sums(sums + p * T * kPanelRows, acc[p]);
  }

  static const float* widen(const std::byte* panel, int64_t length, Wide& wide) {
    if constexpr (!kWidens) return reinterpret_cast<const float*>(panel);
    for (int64_t i = 0; i < 2 * length; ++i) {
      prefetch<kVectorBytes>(panel + i * kVectorBytes, length * kUnitBytes);
      _mm512_store_ps(wide.w + 16 * i, load_weights(panel + i * kVectorBytes));
    }
    return wide.w;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const float* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const float*>(activations);
    __m512 acc[T][2];
    load_sums(sums, acc);
    for (int64_t u = 0; u < length; ++u, w += 32, x += T) {
      const __m512 w0 = _mm512_loadu_ps(w), w1 = _mm512_loadu_ps(w + 16);
#pragma GCC unroll 12
      for (int t = 0; t < T; ++t) {
        const __m512 xt = _mm512_set1_ps(x[t]);
        acc[t][0] = add_product(acc[t][0], w0, xt);
        acc[t][1] = add_product(acc[t][1], w1, xt);
      }
    }
    save_sums(sums, acc);
  }
};

}  // namespace
}  // namespace redline::cpu
