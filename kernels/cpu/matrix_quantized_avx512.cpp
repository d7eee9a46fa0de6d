// Matrices of every quantised type on AVX-512 with VNNI.
//
// Formula: x is quantised to int8 a with a scale per row and 32 k (x ~ scale a). A weight is
// (d s) (u - offset) + (m t), as codec.h has it of its type; u is its code, an unsigned byte (signed ones
// take 128 more, by flipping their sign bit). Per group of 32 or, for types whose s and t belong to 16, 16 k
//   y += ((d s) scale) (sum(u a) - offset sum(a)), then y += (m t) (scale sum(a)) where the type has minima,
// one fp32 chain over groups per output, the same in GEMV and GEMM. vpdpbusd adds up the integers, exactly,
// from -offset sum(a).
//
// Layout: panels of 32 rows (panel_layout.h), two vectors of 16. A thread owns whole panels.
// Up to 6 rows (GEMV): codes unpack in registers and are read once, in order; the limit is memory bandwidth.
// More (GEMM): a chunk of 512 k of a panel is unpacked once into L1 (20 KB) and meets the rows six at a time
// in 12 integer and 12 fp32 sums; the limit is two vpdpbusd a cycle. Not yet measured on hardware: tests run
// it under SIMDe.
#if defined(__x86_64__)
#include "kernels/cpu/codec.h"
#include "kernels/cpu/matrix_driver.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

/// T rows of 32 k, by quads. `sums` of each group: -offset sum(a) as int32 or scale sum(a) as float.
template <int kGroups, int T>
struct ByteTile {
  int8_t a[8][T][4];
  float scale[T];
  int32_t sums[kGroups][T];
};

template <DType kType>
struct Quantized {
  using C = Codec<Avx512, kType>;
  static constexpr int kGroups = 32 / C::kGroup, kOffset = C::kIsSigned ? 128 : C::kOffset;
  template <int T>
  using Tile = ByteTile<kGroups, T>;

  static constexpr int kPanelRows = C::kRows, kTile = 6;
  static constexpr int64_t kUnit = 32 * C::kSubblocks, kUnitBytes = C::kUnitBytes;
  static constexpr int64_t kMaxChunk = 16 / C::kSubblocks, kRowUnitBytes = C::kSubblocks * sizeof(Tile<1>);

  /// Of a group: d s and m t.
  struct Scales {
    float d[2][16];
    float m[C::kMinimum ? 2 : 1][16];
  };
  /// Of a subblock.
  struct Block {
    uint8_t w[8][2][64];
    Scales scales[kGroups];
  };
  struct Wide {
    alignas(64) Block blocks[kMaxChunk * C::kSubblocks];
  };

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t) {
    auto* tile = reinterpret_cast<Tile<T>*>(out);
    for (int64_t b = 0; b < length * C::kSubblocks; ++b, ++tile)
      for (int t = 0; t < T; ++t) {
        const Quantized32 block = quantize_32(x + t * x_stride + 32 * b);
        alignas(32) int8_t bytes[32];
        store_256(bytes, block.q);
        for (int q = 0; q < 8; ++q) memcpy(tile->a[q][t], bytes + 4 * q, 4);
        tile->scale[t] = block.scale;
        for (int g = 0; g < kGroups; ++g) {
          const int32_t sum = kGroups > 1 ? block.sums[g] : block.sums[0] + block.sums[1];
          const float scaled = block.scale * static_cast<float>(sum);
          if constexpr (C::kMinimum != 0)
            memcpy(&tile->sums[g][t], &scaled, 4);
          else
            tile->sums[g][t] = -kOffset * sum;
        }
      }
  }

  /// Quad q of subblock s as unsigned bytes.
  static __m512i load_quad(const std::byte* unit, int s, int q, int v) {
    const __m512i codes = C::quad(unit, s, q, v);
    return C::kIsSigned ? _mm512_xor_si512(codes, _mm512_set1_epi8(-128)) : codes;
  }
  /// The scales of group g of subblock s.
  static void load_scales(const std::byte* unit, int s, int g, Scales& to) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      __m512 d = C::d(unit, v);
      if constexpr (C::kHasScales)
        d = _mm512_mul_ps(d, _mm512_cvtepi32_ps(C::scale(unit, s * kGroups + g, v)));
      _mm512_store_ps(to.d[v], d);
      if constexpr (C::kMinimum != 0) {
        __m512 m = C::m(unit, v);
        if constexpr (C::kMinimum < 0) m = _mm512_sub_ps(_mm512_setzero_ps(), m);
        if constexpr (C::kHasScales)
          m = _mm512_mul_ps(m, _mm512_cvtepi32_ps(C::minimum(unit, s * kGroups + g, v)));
        _mm512_store_ps(to.m[v], m);
      }
    }
  }

  /// What the integer sum of a row starts at.
  static __m512i first_sum(int32_t sum) {
    return kOffset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(sum);
  }
  /// acc += a group's.
  static __m512 add_group(__m512 acc, __m512i products, const Scales& scales, int v, float scale,
                          int32_t sum) {
    const __m512 d = _mm512_load_ps(scales.d[v]);
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc);
    if constexpr (C::kMinimum != 0)
      acc = _mm512_fmadd_ps(_mm512_load_ps(scales.m[v]), _mm512_castsi512_ps(_mm512_set1_epi32(sum)), acc);
    return acc;
  }

  template <int T>
  static void gemv(const LinearTask& task, int64_t first_panel, int64_t last_panel) {
    constexpr int64_t kSubblockBytes = (kUnitBytes / C::kSubblocks + 63) / 64 * 64;
    const int64_t units = task.k / kUnit;
    const std::byte* unit = task.weight + first_panel * units * kUnitBytes;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const auto* x = reinterpret_cast<const Tile<T>*>(task.activations);
      __m512 acc[T][2];
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm512_setzero_ps();
      for (int64_t u = 0; u < units; ++u, unit += kUnitBytes)
        for (int s = 0; s < C::kSubblocks; ++s, ++x) {
          prefetch<kSubblockBytes>(unit + s * kSubblockBytes, kPrefetchBytes);
#pragma GCC unroll 2
          for (int g = 0; g < kGroups; ++g) {
            alignas(64) Scales scales;
            load_scales(unit, s, g, scales);
            __m512i products[T][2];
#pragma GCC unroll 6
            for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sums[g][t]);
#pragma GCC unroll 8
            for (int q = g * 8 / kGroups; q < (g + 1) * 8 / kGroups; ++q)
#pragma GCC unroll 2
              for (int v = 0; v < 2; ++v) {
                const __m512i w = load_quad(unit, s, q, v);
#pragma GCC unroll 6
                for (int t = 0; t < T; ++t)
                  products[t][v] = _mm512_dpbusd_epi32(products[t][v], w, broadcast_quad16(x->a[q][t]));
              }
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v)
#pragma GCC unroll 6
              for (int t = 0; t < T; ++t)
                acc[t][v] = add_group(acc[t][v], products[t][v], scales, v, x->scale[t], x->sums[g][t]);
          }
        }
      store_sums(task, panel, acc);
    }
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    Block* out = wide.blocks;
    for (int64_t u = 0; u < length; ++u, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
      for (int s = 0; s < C::kSubblocks; ++s, ++out) {
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) store_512(out->w[q][v], load_quad(panel, s, q, v));
        for (int g = 0; g < kGroups; ++g) load_scales(panel, s, g, out->scales[g]);
      }
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const Tile<T>*>(activations);
    __m512 acc[T][2];
    load_sums(sums, acc);
    for (int64_t b = 0; b < length * C::kSubblocks; ++b, ++w, ++x)
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
        __m512i products[T][2];
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sums[g][t]);
#pragma GCC unroll 8
        for (int q = g * 8 / kGroups; q < (g + 1) * 8 / kGroups; ++q) {
          const __m512i w0 = load_512(w->w[q][0]), w1 = load_512(w->w[q][1]);
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t) {
            const __m512i a = broadcast_quad16(x->a[q][t]);
            products[t][0] = _mm512_dpbusd_epi32(products[t][0], w0, a);
            products[t][1] = _mm512_dpbusd_epi32(products[t][1], w1, a);
          }
        }
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v)
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t)
            acc[t][v] = add_group(acc[t][v], products[t][v], w->scales[g], v, x->scale[t], x->sums[g][t]);
      }
    save_sums(sums, acc);
  }
};

template <DType kType>
constexpr MatrixKernel quantized() {
  return kernel<Quantized<kType>>({kType, 32}, ComputeType::kInt8);
}

}  // namespace

constinit const MatrixKernel kQ8_0Avx512 = quantized<DType::kQ8_0>();
constinit const MatrixKernel kQ4_0Avx512 = quantized<DType::kQ4_0>();
constinit const MatrixKernel kQ4_1Avx512 = quantized<DType::kQ4_1>();
constinit const MatrixKernel kQ5_0Avx512 = quantized<DType::kQ5_0>();
constinit const MatrixKernel kQ5_1Avx512 = quantized<DType::kQ5_1>();
constinit const MatrixKernel kQ2_KAvx512 = quantized<DType::kQ2_K>();
constinit const MatrixKernel kQ3_KAvx512 = quantized<DType::kQ3_K>();
constinit const MatrixKernel kQ4_KAvx512 = quantized<DType::kQ4_K>();
constinit const MatrixKernel kQ5_KAvx512 = quantized<DType::kQ5_K>();
constinit const MatrixKernel kQ6_KAvx512 = quantized<DType::kQ6_K>();
constinit const MatrixKernel kIQ4_NLAvx512 = quantized<DType::kIQ4_NL>();
constinit const MatrixKernel kIQ4_XSAvx512 = quantized<DType::kIQ4_XS>();
constinit const MatrixKernel kMXFP4Avx512 = quantized<DType::kMXFP4>();

}  // namespace redline::cpu
#endif
