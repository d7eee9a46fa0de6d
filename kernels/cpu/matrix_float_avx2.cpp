// F32, F16 and BF16 matrices on AVX2, in fp32.
//
// Formula: y = fma(w[k], x[k], y) over k in order, one chain per output, in GEMV as in GEMM.
//
// Layout: panels of 16 rows, [k][16] (panel_layout.h), two vectors of 8. A thread owns whole panels.
// Up to 6 rows (GEMV): weights widen in registers and are read once; with one or two rows two panels at a
// time, because a few chains alone would wait for each sum; the limit is memory bandwidth. Up to 18: the
// same, tile by tile, over 256 k of a panel in L1. More (GEMM): those are widened once into L1 (16 KB) and
// meet the rows tile by tile in 12 sums; the limit is two fmas a cycle.
//
// Measured on Zen 3 (EPYC, 2 cores of a virtual machine), medians of pairs with a bare loop or a read of the
// same bytes (redline_kernel_bench): BF16 / F16 with 512 rows, one thread, 77 / 85 % of what fma attains (78
// / 85 GFLOP/s); BF16, two threads: 67 % of the roofline with 8 rows, 74 % with 16, the whole of it with 1
// to 4.
#if defined(__x86_64__)
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

template <DType kType>
struct Float {
  static constexpr int kPanelRows = 16, kTile = 6, kPackedTiles = 3;
  template <int T>
  static constexpr int kPanelsAtOnce = T <= 2 ? 2 : 1;
  static constexpr int64_t kUnit = 1, kMaxChunk = 256;
  static constexpr int64_t kElementBytes = kType == DType::kF32 ? 4 : 2;
  static constexpr int64_t kUnitBytes = kPanelRows * kElementBytes, kRowUnitBytes = 4;

  struct Wide {
    alignas(64) float w[kType == DType::kF32 ? 1 : kMaxChunk * kPanelRows];
  };

  static __m256 load_weights(const std::byte* p) {
    if constexpr (kType == DType::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
    if constexpr (kType == DType::kF16) return load_half8(p);
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t) {
    auto* tile = reinterpret_cast<float*>(out);
    for (int t = 0; t < T; ++t)
      for (int64_t i = 0; i < length; ++i) tile[i * T + t] = x[t * x_stride + i];
  }

  template <int T, int P>
  __attribute__((noinline)) static void multiply_packed(const std::byte* w, int64_t stride,
                                                        const std::byte* activations, int64_t length,
                                                        float* sums) {
    const auto* x = reinterpret_cast<const float*>(activations);
    __m256 acc[P][T][2];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) load_sums(sums + p * T * kPanelRows, acc[p]);
    const auto step = [&] {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m256 w0 = load_weights(w + p * stride);
        const __m256 w1 = load_weights(w + p * stride + 8 * kElementBytes);
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) {
          const __m256 xt = _mm256_broadcast_ss(x + t);
          acc[p][t][0] = _mm256_fmadd_ps(w0, xt, acc[p][t][0]);
          acc[p][t][1] = _mm256_fmadd_ps(w1, xt, acc[p][t][1]);
        }
      }
      x += T;
      w += kUnitBytes;
    };
    int64_t k = 0;
    for (; k + 4 <= length; k += 4) {
      for (int p = 0; p < P; ++p) prefetch<4 * kUnitBytes>(w + p * stride, kPrefetchBytes / P);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) step();
    }
    for (; k < length; ++k) step();
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) save_sums(sums + p * T * kPanelRows, acc[p]);
  }

  static const float* widen(const std::byte* panel, int64_t length, Wide& wide) {
    if constexpr (kType == DType::kF32) return reinterpret_cast<const float*>(panel);
    for (int64_t i = 0; i < length * kPanelRows; i += 16) {
      prefetch<kUnitBytes>(panel + i * kElementBytes, length * kUnitBytes);
      _mm256_store_ps(wide.w + i, load_weights(panel + i * kElementBytes));
      _mm256_store_ps(wide.w + i + 8, load_weights(panel + (i + 8) * kElementBytes));
    }
    return wide.w;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const float* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const float*>(activations);
    __m256 acc[T][2];
    load_sums(sums, acc);
#pragma GCC unroll 4
    for (int64_t k = 0; k < length; ++k, w += 16, x += T) {
      const __m256 w0 = _mm256_loadu_ps(w), w1 = _mm256_loadu_ps(w + 8);
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) {
        const __m256 xt = _mm256_broadcast_ss(x + t);
        acc[t][0] = _mm256_fmadd_ps(w0, xt, acc[t][0]);
        acc[t][1] = _mm256_fmadd_ps(w1, xt, acc[t][1]);
      }
    }
    save_sums(sums, acc);
  }
};

template <DType kType>
constexpr MatrixKernel floats() {
  return kernel<Float<kType>>({kType, 16}, ComputeType::kF32);
}

}  // namespace

constinit const MatrixKernel kFloatAvx2[kNumFloatTypes] = {floats<DType::kF32>(), floats<DType::kF16>(),
                                                           floats<DType::kBF16>()};

}  // namespace redline::cpu
#endif
