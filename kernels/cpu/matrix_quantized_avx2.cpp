// Matrices of every quantised type on AVX2.
//
// Formula: x is quantised to int8 a with a scale per row and 32 k (|a| <= 127, x ~ scale a). A weight is
// (d s) (u - offset) + (m t), as codec.h has it of its type; u is its code. Per subblock of 32 k
//   y += (d scale) sum(s (u - offset) a), then y += (m scale) sum(t a) where the type has minima,
// one fp32 chain over subblocks per output, the same in GEMV and GEMM. The integers are exact. Where s and t
// belong to 32 k they are multiplied into d and m instead.
//   Unsigned codes: maddubs adds two products in int16; as many of those as int16 holds (8 up to code 15, 4
//   up to 31, 2 up to 63) are added there before pmaddwd widens them, times s where s belongs to 16 k.
//   Offsets and minima come through the sums of a. Signed codes: both factors are widened to int16, and
//   pmaddwd adds pairs in int32 (bytes times bytes would not fit int16).
//
// Layout: panels of 16 rows (panel_layout.h), two vectors of 8. A thread owns whole panels. Up to 4 rows
// (GEMV): codes unpack in registers, weights are read once, in order, 2 KiB prefetched ahead; the limit is
// memory bandwidth. Up to 8, 12 or 16 rows, as the type unpacks cheaply: the same, tile by tile, over a chunk
// of a panel in L1. More (GEMM): a chunk of a panel is unpacked once into L1 (13 to 17 KB) and meets the rows
// tile by tile; the limit is two maddubs or pmaddwd a cycle.
//
// Measured on Zen 3 (EPYC, 2 cores of a virtual machine), 4096 x 2048 or 8192 x 2048 weights, medians of 7 or
// 11 pairs with a bare loop or a read of the same bytes (redline_kernel_bench; rows in docs/bench/cpu.jsonl).
// With 512 rows, one thread, share of what maddubs or, for signed codes, pmaddwd attains: Q4_0 / Q4_1 / Q4_K
// 70 / 72 / 70 %, Q5_0 / Q5_1 / Q5_K / MXFP4 66 / 57 / 64 / 66 %, Q2_K / Q3_K / Q6_K 59 / 51 / 55 %, Q8_0 /
// IQ4_NL / IQ4_XS 81 / 80 / 79 %. With 8 rows, two threads: Q8_0 63 %, Q4_0 and Q4_1 57 %, Q4_K 52 %, Q6_K
// 34 % of the roofline; with 4 rows 67 (Q6_K) to 91 % (Q8_0). With 1 row the whole of the read (that loop,
// without prefetching, took longer than the kernel), but Q2_K 78 %, IQ4_XS 78 % and Q3_K 68 %: unpacking
// takes longer there.
#if defined(__x86_64__)
#include "kernels/cpu/codec.h"
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

// Signed bytes as int16, times 256: a shift less than their values would take.
inline __m256i even_bytes_256(__m256i v) { return _mm256_slli_epi16(v, 8); }
inline __m256i odd_bytes_256(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi16(-256)); }

/// T rows of 32 k as bytes, by quads. `sums` is whichever the type needs: -offset sum(a) as int32, scale
/// sum(a) as float, or the sums of a's halves as two int16.
template <int T>
struct ByteTile {
  int8_t a[8][T][4];
  float scale[T];
  int32_t sums[T];
};
/// T rows of 32 k as int16: pair 2 q is the even half of quad q, pair 2 q + 1 the odd half.
template <int T>
struct PairTile {
  int16_t a[16][T][2];
  float scale[T];
};

template <DType kType>
struct Quantized {
  using C = Codec<Avx2, kType>;
  template <int T>
  using Tile = std::conditional_t<C::kIsSigned, PairTile<T>, ByteTile<T>>;
  static constexpr bool kBy16 = C::kGroup == 16;
  static constexpr int kSteps = C::kIsSigned ? 16 : 8;
  // Steps whose products int16 holds.
  static constexpr int kFlush = C::kIsSigned                  ? 1
                                : C::kMaxCode <= 15 && !kBy16 ? 8
                                : C::kMaxCode <= 31           ? 4
                                                              : 2;

  static constexpr int kPanelRows = C::kRows, kTile = 4;
  static constexpr int kPackedTiles = kType == DType::kQ8_0 ? 4 : kBy16 ? 1 : C::kSubblocks > 1 ? 2 : 3;
  template <int T>
  static constexpr int kPanelsAtOnce = 1;
  static constexpr int64_t kUnit = 32 * C::kSubblocks, kUnitBytes = C::kUnitBytes;
  static constexpr int64_t kMaxChunk = C::kSubblocks > 1 ? 2 : C::kIsSigned ? 16 : 20;
  static constexpr int64_t kRowUnitBytes = C::kSubblocks * sizeof(Tile<1>);

  /// Of a subblock.
  struct Scales {
    float d[2][8];
    float m[C::kMinimum ? 2 : 1][8];
    // By 16: s of either half, twice in each lane; and what the sums of a's halves are times, t or -offset s.
    int16_t s[kBy16 ? 2 : 1][2][16];
    int16_t of_sums[kBy16 ? 2 : 1][16];
  };
  struct Block {
    int8_t w[kSteps][2][32];
    Scales scales;
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
        tile->scale[t] = C::kIsSigned ? block.scale / 256 : block.scale;
        alignas(32) int8_t bytes[32];
        if constexpr (C::kIsSigned) {
          alignas(32) int16_t even[16], odd[16];
          store_256(even, _mm256_srai_epi16(_mm256_slli_epi16(block.q, 8), 8));
          store_256(odd, _mm256_srai_epi16(block.q, 8));
          for (int q = 0; q < 8; ++q) {
            memcpy(tile->a[2 * q][t], even + 2 * q, 4);
            memcpy(tile->a[2 * q + 1][t], odd + 2 * q, 4);
          }
        } else {
          store_256(bytes, block.q);
          for (int q = 0; q < 8; ++q) memcpy(tile->a[q][t], bytes + 4 * q, 4);
          tile->sums[t] = sums_of(block);
        }
      }
  }
  static int32_t sums_of(const Quantized32& block) {
    const int32_t sum = block.sums[0] + block.sums[1];
    if constexpr (kBy16) return (block.sums[0] & 0xffff) | block.sums[1] << 16;
    if constexpr (C::kMinimum == 0) return -C::kOffset * sum;
    const float scaled = block.scale * static_cast<float>(sum);
    int32_t bits;
    memcpy(&bits, &scaled, 4);
    return bits;
  }

  /// The scales of subblock s of a unit.
  static void load_scales(const std::byte* unit, int s, Scales& to) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      __m256 d = C::d(unit, v), m = d;
      if constexpr (C::kMinimum != 0) m = C::m(unit, v);
      if constexpr (C::kMinimum < 0) m = _mm256_sub_ps(_mm256_setzero_ps(), m);
      if constexpr (kBy16) {
        const __m256i low16 = _mm256_set1_epi32(0xffff);
        const __m256i s0 = C::scale(unit, 2 * s, v), s1 = C::scale(unit, 2 * s + 1, v);
        store_256(to.s[0][v], twice_in_lane(s0));
        store_256(to.s[1][v], twice_in_lane(s1));
        __m256i of_sums;
        if constexpr (C::kMinimum != 0)
          of_sums = _mm256_or_si256(C::minimum(unit, 2 * s, v),
                                    _mm256_slli_epi32(C::minimum(unit, 2 * s + 1, v), 16));
        else
          of_sums =
              _mm256_mullo_epi16(_mm256_or_si256(_mm256_and_si256(s0, low16), _mm256_slli_epi32(s1, 16)),
                                 _mm256_set1_epi16(-C::kOffset));
        store_256(to.of_sums[v], of_sums);
      } else if constexpr (C::kHasScales) {
        d = _mm256_mul_ps(d, _mm256_cvtepi32_ps(C::scale(unit, s, v)));
        if constexpr (C::kMinimum != 0) m = _mm256_mul_ps(m, _mm256_cvtepi32_ps(C::minimum(unit, s, v)));
      }
      _mm256_store_ps(to.d[v], d);
      if constexpr (C::kMinimum != 0) _mm256_store_ps(to.m[v], m);
    }
  }
  static __m256i twice_in_lane(__m256i x) {
    return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(x, 16));
  }

  /// What a subblock adds up for one row of activations and one vector of weights.
  struct Sums {
    __m256i in16, total;
    void add(int step, __m256i w, __m256i a, const Scales& scales, int v) {
      if constexpr (C::kIsSigned) {
        const __m256i product = _mm256_madd_epi16(w, a);
        total = step ? _mm256_add_epi32(total, product) : product;
        pin(total);
      } else {
        const __m256i product = _mm256_maddubs_epi16(w, a);
        in16 = step % kFlush ? _mm256_add_epi16(in16, product) : product;
        pin(in16);
        if (step % kFlush == kFlush - 1) {
          const __m256i factor = kBy16 ? load_256(scales.s[step / 4][v]) : _mm256_set1_epi16(1);
          const __m256i wide = _mm256_madd_epi16(in16, factor);
          total = step >= kFlush ? _mm256_add_epi32(total, wide) : wide;
          if (kFlush < 8) pin(total);
        }
      }
    }
    /// acc += the subblock.
    template <int T>
    __m256 end(__m256 acc, const Scales& scales, int v, const Tile<T>& x, int t) const {
      const __m256 scaled = _mm256_mul_ps(_mm256_load_ps(scales.d[v]), _mm256_set1_ps(x.scale[t]));
      __m256i sum = total;
      if constexpr (C::kIsSigned) return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scaled, acc);
      if constexpr (!C::kIsSigned) {
        const __m256i sums = _mm256_set1_epi32(x.sums[t]);
        __m256i of_sums = sums;
        if constexpr (kBy16) of_sums = _mm256_madd_epi16(load_256(scales.of_sums[v]), sums);
        if constexpr (C::kOffset != 0) sum = _mm256_add_epi32(sum, of_sums);
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scaled, acc);
        if constexpr (C::kMinimum != 0) {
          const __m256 m = _mm256_load_ps(scales.m[v]);
          if constexpr (kBy16)
            acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(of_sums), _mm256_mul_ps(m, _mm256_set1_ps(x.scale[t])),
                                  acc);
          else
            acc = _mm256_fmadd_ps(m, _mm256_castsi256_ps(sums), acc);
        }
        return acc;
      }
    }
  };

  /// Adds step k of a panel's two vectors to T rows: each row's activations are broadcast once for both.
  template <int T, class A>
  static void add_step(Sums (&sums)[T][2], int k, __m256i w0, __m256i w1, const A (&a)[T],
                       const Scales& scales) {
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256i at = broadcast_quad(a[t]);
      sums[t][0].add(k, w0, at, scales, 0);
      sums[t][1].add(k, w1, at, scales, 1);
    }
  }

  template <int T, int>
  __attribute__((noinline)) static void multiply_packed(const std::byte* unit, int64_t,
                                                        const std::byte* activations, int64_t length,
                                                        float* out) {
    constexpr int64_t kSubblockBytes = (kUnitBytes / C::kSubblocks + 63) / 64 * 64;
    const auto* x = reinterpret_cast<const Tile<T>*>(activations);
    __m256 acc[T][2];
    load_sums(out, acc);
    for (int64_t u = 0; u < length; ++u, unit += kUnitBytes) {
      for (int s = 0; s < C::kSubblocks; ++s, ++x) {
        prefetch<kSubblockBytes>(unit + s * kSubblockBytes, kPrefetchBytes);
        alignas(32) Scales scales;
        load_scales(unit, s, scales);
        Sums sums[T][2];
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q) {
          const __m256i w0 = C::quad(unit, s, q, 0), w1 = C::quad(unit, s, q, 1);
          if constexpr (C::kIsSigned) {
            add_step(sums, 2 * q, even_bytes_256(w0), even_bytes_256(w1), x->a[2 * q], scales);
            add_step(sums, 2 * q + 1, odd_bytes_256(w0), odd_bytes_256(w1), x->a[2 * q + 1], scales);
          } else {
            add_step(sums, q, w0, w1, x->a[q], scales);
          }
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) acc[t][v] = sums[t][v].template end<T>(acc[t][v], scales, v, *x, t);
      }
    }
    save_sums(out, acc);
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    Block* out = wide.blocks;
    for (int64_t u = 0; u < length; ++u, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
      for (int s = 0; s < C::kSubblocks; ++s, ++out) {
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m256i w = C::quad(panel, s, q, v);
            if constexpr (C::kIsSigned) {
              store_256(out->w[2 * q][v], even_bytes_256(w));
              store_256(out->w[2 * q + 1][v], odd_bytes_256(w));
            } else {
              store_256(out->w[q][v], w);
            }
          }
        load_scales(panel, s, out->scales);
      }
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* out) {
    const auto* x = reinterpret_cast<const Tile<T>*>(activations);
    __m256 acc[T][2];
    load_sums(out, acc);
    for (int64_t b = 0; b < length * C::kSubblocks; ++b, ++w, ++x) {
      Sums sums[T][2];
      // Few sums fit int16: one row's at a time, so that all totals stay in registers.
      constexpr int kTogether = kFlush == 2 ? 1 : T, kAtOnce = kFlush == 2 ? 2 : kSteps;
#pragma GCC unroll 4
      for (int first = 0; first < kSteps; first += kAtOnce)
#pragma GCC unroll 4
        for (int t0 = 0; t0 < T; t0 += kTogether)
#pragma GCC unroll 16
          for (int k = first; k < first + kAtOnce; ++k)
#pragma GCC unroll 4
            for (int t = t0; t < t0 + kTogether; ++t) {
              const __m256i a = broadcast_quad(x->a[k][t]);
#pragma GCC unroll 2
              for (int v = 0; v < 2; ++v) sums[t][v].add(k, load_256(w->w[k][v]), a, w->scales, v);
            }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) acc[t][v] = sums[t][v].template end<T>(acc[t][v], w->scales, v, *x, t);
    }
    save_sums(out, acc);
  }
};

template <DType kType>
constexpr MatrixKernel quantized() {
  using K = Quantized<kType>;
  return kernel<K>({kType, 16}, K::C::kIsSigned ? ComputeType::kInt16 : ComputeType::kInt8);
}

}  // namespace

constinit const MatrixKernel kQuantizedAvx2[kNumQuantizedTypes] = {
    quantized<DType::kQ8_0>(),  quantized<DType::kQ4_0>(),   quantized<DType::kQ4_1>(),
    quantized<DType::kQ5_0>(),  quantized<DType::kQ5_1>(),   quantized<DType::kQ2_K>(),
    quantized<DType::kQ3_K>(),  quantized<DType::kQ4_K>(),   quantized<DType::kQ5_K>(),
    quantized<DType::kQ6_K>(),  quantized<DType::kIQ4_NL>(), quantized<DType::kIQ4_XS>(),
    quantized<DType::kMXFP4>(),
};

}  // namespace redline::cpu
#endif
