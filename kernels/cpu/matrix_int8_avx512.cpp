// Q8_0, Q4_0 and Q4_1 matrices on AVX-512 with VNNI.
//
// Formula: x is quantised to int8 a with a scale s per row and 32 k (x ~ s a). Weights are taken as unsigned
// bytes u (Q4_1 u = q, Q4_0 u = q + 8, Q8_0 u = q + 128 by flipping the sign bit), so that vpdpbusd
// multiplies them, and the integer sum starts at -offset sum(a):
//   y += (d s) (sum(u a) - offset sum(a)), and for Q4_1 then y += m (s sum(a)),
// one fp32 chain over blocks of 32 k per output, the same in GEMV and GEMM; the integers are exact.
//
// Layout: panels of 32 rows (panel_layout.h), two vectors of 16. A thread owns whole panels.
// Up to 6 rows (GEMV): weights unpack in registers and are read once, in order; the limit is memory
// bandwidth. More (GEMM): a chunk of 512 k of a panel is unpacked once into L1 (20 KB) and meets the rows six
// at a time in 12 integer and 12 fp32 sums; the limit is two vpdpbusd a cycle. Not yet measured on hardware:
// tests run it under SIMDe.
#if defined(__x86_64__)
#include "kernels/cpu/matrix_driver.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

template <DType kType>
struct Int8 {
  using Layout = BlockLayout<kType>;
  static constexpr int kPanelRows = 32, kTile = 6;
  static constexpr int64_t kUnit = 32, kMaxChunk = 16;
  static constexpr int64_t kUnitBytes = kPanelRows * Layout::kBytes, kRowUnitBytes = sizeof(QuantizedTile<1>);
  static constexpr bool kHasMinimum = kType == DType::kQ4_1, kIsByte = kType == DType::kQ8_0;

  struct Block {
    uint8_t q[8][2][64];
    float d[2][16];
    float m[kHasMinimum ? 2 : 1][16];
  };
  struct Wide {
    alignas(64) Block blocks[kMaxChunk];
  };

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t) {
    prepare_quantized<kType, T>(out, x, x_stride, length);
  }

  /// Quad q of vector v of a packed block as unsigned bytes.
  static __m512i load_quad(const std::byte* block, int q, int v) {
    const std::byte* quads = block + kPanelRows * Layout::kHeaderBytes;
    if constexpr (kIsByte)
      return _mm512_xor_si512(load_512(quads + 128 * q + 64 * v), _mm512_set1_epi8(-128));
    const __m512i packed = load_512(quads + 128 * (q % 4) + 64 * v), low = _mm512_set1_epi8(15);
    return _mm512_and_si512(q < 4 ? packed : _mm512_srli_epi16(packed, 4), low);
  }
  static __m512 load_scale(const std::byte* block, int v) { return load_half16(block + 32 * v); }
  static __m512 load_minimum(const std::byte* block, int v) { return load_half16(block + 64 + 32 * v); }

  /// What the integer sum of a row starts at.
  static __m512i first_sum(int32_t sum) {
    return kHasMinimum ? _mm512_setzero_si512() : _mm512_set1_epi32(sum);
  }

  static __m512 add_block(__m512 acc, __m512i products, __m512 d, __m512 m, float scale, int32_t sum) {
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc);
    if constexpr (kHasMinimum) acc = _mm512_fmadd_ps(m, _mm512_castsi512_ps(_mm512_set1_epi32(sum)), acc);
    return acc;
  }

  template <int T>
  static void gemv(const LinearTask& task, int64_t first_panel, int64_t last_panel) {
    const int64_t blocks = task.k / 32;
    const std::byte* block = task.weight + first_panel * blocks * kUnitBytes;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const auto* x = reinterpret_cast<const QuantizedTile<T>*>(task.activations);
      __m512 acc[T][2];
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm512_setzero_ps();
      for (int64_t b = 0; b < blocks; ++b, ++x, block += kUnitBytes) {
        prefetch<kUnitBytes>(block, kPrefetchBytes);
        __m512i products[T][2];
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sum[t]);
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m512i w = load_quad(block, q, v);
#pragma GCC unroll 6
            for (int t = 0; t < T; ++t)
              products[t][v] = _mm512_dpbusd_epi32(products[t][v], w, broadcast_quad16(x->q[q][t]));
          }
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m512 d = load_scale(block, v), m = kHasMinimum ? load_minimum(block, v) : d;
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t)
            acc[t][v] = add_block(acc[t][v], products[t][v], d, m, x->scale[t], x->sum[t]);
        }
      }
      store_sums(task, panel, acc);
    }
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    Block* out = wide.blocks;
    for (int64_t b = 0; b < length; ++b, ++out, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q)
        for (int v = 0; v < 2; ++v) store_512(out->q[q][v], load_quad(panel, q, v));
      for (int v = 0; v < 2; ++v) {
        _mm512_store_ps(out->d[v], load_scale(panel, v));
        if constexpr (kHasMinimum) _mm512_store_ps(out->m[v], load_minimum(panel, v));
      }
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const QuantizedTile<T>*>(activations);
    __m512 acc[T][2];
    load_sums(sums, acc);
    for (int64_t b = 0; b < length; ++b, ++w, ++x) {
      __m512i products[T][2];
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sum[t]);
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) {
        const __m512i w0 = load_512(w->q[q][0]), w1 = load_512(w->q[q][1]);
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) {
          const __m512i a = broadcast_quad16(x->q[q][t]);
          products[t][0] = _mm512_dpbusd_epi32(products[t][0], w0, a);
          products[t][1] = _mm512_dpbusd_epi32(products[t][1], w1, a);
        }
      }
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const __m512 d = _mm512_load_ps(w->d[v]);
        __m512 m = d;
        if constexpr (kHasMinimum) m = _mm512_load_ps(w->m[v]);
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t)
          acc[t][v] = add_block(acc[t][v], products[t][v], d, m, x->scale[t], x->sum[t]);
      }
    }
    save_sums(sums, acc);
  }
};

}  // namespace

constinit const MatrixKernel kQ8_0Avx512 = kernel<Int8<DType::kQ8_0>>({DType::kQ8_0, 32}, ComputeType::kInt8);
constinit const MatrixKernel kQ4_0Avx512 = kernel<Int8<DType::kQ4_0>>({DType::kQ4_0, 32}, ComputeType::kInt8);
constinit const MatrixKernel kQ4_1Avx512 = kernel<Int8<DType::kQ4_1>>({DType::kQ4_1, 32}, ComputeType::kInt8);

}  // namespace redline::cpu
#endif
