// Q4_0 and Q4_1 matrices on AVX2.
//
// Formula: x is quantised to int8 a with a scale s per row and 32 k (|a| <= 127, x ~ s a). Per block b of 32
// k
//   Q4_1: y += (d s) sum(q a), then y += m (s sum(a));   Q4_0: y += (d s) (sum(u a) - 8 sum(a)), u = q + 8,
// one fp32 chain over b per output, the same in GEMV and GEMM; the integers are exact: u <= 15, so eight
// maddubs results (each two products) fit int16 and are widened once.
//
// Layout: panels of 16 rows (panel_layout.h), two vectors of 8. A thread owns whole panels.
// Up to 4 rows (GEMV): nibbles unpack in registers, weights are read once, in order, 2 KiB prefetched ahead;
// the limit is memory bandwidth. More (GEMM): a chunk of a panel is unpacked once into L1 (12.8 KB) and meets
// the rows tile by tile; the limit is two maddubs a cycle.
//
// Measured on Zen 3 (EPYC, 2 cores of a virtual machine, busy with other programs), one thread on its own
// clock, 4096 x 2048 weights, medians of pairs with a bare loop or a read of the same bytes
// (redline_kernel_bench
// --own-clock): Q4_1 / Q4_0 with 512 rows 66 / 64 % of what
// maddubs attains (181 / 168 GOP/s), with 8 rows 47 / 48 % of the roofline, with 1 row the whole of the read.
#if defined(__x86_64__)
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

template <DType kType>
struct Q4 {
  using Layout = BlockLayout<kType>;
  static constexpr int kPanelRows = 16, kTile = 4;
  static constexpr int64_t kUnit = 32, kMaxChunk = 20;
  static constexpr int64_t kUnitBytes = kPanelRows * Layout::kBytes, kRowUnitBytes = sizeof(QuantizedTile<1>);
  static constexpr bool kHasMinimum = kType == DType::kQ4_1;

  struct Block {
    uint8_t q[8][2][32];
    float d[2][8];
    float m[kHasMinimum ? 2 : 1][8];
  };
  struct Wide {
    alignas(64) Block blocks[kMaxChunk];
  };

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t) {
    prepare_quantized<kType, T>(out, x, x_stride, length);
  }

  /// acc += the block's contribution; `products` is sum(u a) in pairs of int16.
  static __m256 add_block(__m256 acc, __m256i products, __m256 d, __m256 m, float scale, int32_t sum) {
    __m256i total = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
    if constexpr (!kHasMinimum) total = _mm256_add_epi32(total, _mm256_set1_epi32(sum));
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(d, _mm256_set1_ps(scale)), acc);
    if constexpr (kHasMinimum) acc = _mm256_fmadd_ps(m, _mm256_castsi256_ps(_mm256_set1_epi32(sum)), acc);
    return acc;
  }

  template <int T>
  static void gemv(const LinearTask& task, int64_t first_panel, int64_t last_panel) {
    const __m256i low = _mm256_set1_epi8(15);
    const int64_t blocks = task.k / 32;
    const std::byte* block = task.weight + first_panel * blocks * kUnitBytes;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const auto* x = reinterpret_cast<const QuantizedTile<T>*>(task.activations);
      __m256 acc[T][2];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
      for (int64_t b = 0; b < blocks; ++b, ++x, block += kUnitBytes) {
        prefetch<kUnitBytes>(block, kPrefetchBytes);
        const std::byte* quads = block + kPanelRows * Layout::kHeaderBytes;
        __m256i products[T][2];
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m256i packed = load_256(quads + 64 * q + 32 * v);
            const __m256i first = _mm256_and_si256(packed, low);
            const __m256i second = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) {
              const __m256i a = _mm256_maddubs_epi16(first, broadcast_quad(x->q[q][t]));
              const __m256i b16 = _mm256_maddubs_epi16(second, broadcast_quad(x->q[4 + q][t]));
              products[t][v] = q ? _mm256_add_epi16(products[t][v], a) : a;
              products[t][v] = _mm256_add_epi16(products[t][v], b16);
              pin(products[t][v]);
            }
          }
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m256 d = load_half8(block + 16 * v), m = kHasMinimum ? load_half8(block + 32 + 16 * v) : d;
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t)
            acc[t][v] = add_block(acc[t][v], products[t][v], d, m, x->scale[t], x->sum[t]);
        }
      }
      store_sums(task, panel, acc);
    }
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    const __m256i low = _mm256_set1_epi8(15);
    Block* out = wide.blocks;
    for (int64_t b = 0; b < length; ++b, ++out, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
      const std::byte* quads = panel + kPanelRows * Layout::kHeaderBytes;
      for (int q = 0; q < 4; ++q)
        for (int v = 0; v < 2; ++v) {
          const __m256i packed = load_256(quads + 64 * q + 32 * v);
          store_256(out->q[q][v], _mm256_and_si256(packed, low));
          store_256(out->q[4 + q][v], _mm256_and_si256(_mm256_srli_epi16(packed, 4), low));
        }
      for (int v = 0; v < 2; ++v) {
        _mm256_store_ps(out->d[v], load_half8(panel + 16 * v));
        if constexpr (kHasMinimum) _mm256_store_ps(out->m[v], load_half8(panel + 32 + 16 * v));
      }
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const QuantizedTile<T>*>(activations);
    __m256 acc[T][2];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) acc[t][v] = _mm256_load_ps(sums + 16 * t + 8 * v);
    for (int64_t b = 0; b < length; ++b, ++w, ++x) {
      __m256i products[T][2];
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const __m256i a = broadcast_quad(x->q[q][t]);
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m256i product = _mm256_maddubs_epi16(load_256(w->q[q][v]), a);
            products[t][v] = q ? _mm256_add_epi16(products[t][v], product) : product;
            pin(products[t][v]);
          }
        }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m256 d = _mm256_load_ps(w->d[v]);
          __m256 m = d;
          if constexpr (kHasMinimum) m = _mm256_load_ps(w->m[v]);
          acc[t][v] = add_block(acc[t][v], products[t][v], d, m, x->scale[t], x->sum[t]);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) _mm256_store_ps(sums + 16 * t + 8 * v, acc[t][v]);
  }
};

}  // namespace

constinit const MatrixKernel kQ4_0Avx2 = kernel<Q4<DType::kQ4_0>>({DType::kQ4_0, 16}, ComputeType::kInt8);
constinit const MatrixKernel kQ4_1Avx2 = kernel<Q4<DType::kQ4_1>>({DType::kQ4_1, 16}, ComputeType::kInt8);

}  // namespace redline::cpu
#endif
