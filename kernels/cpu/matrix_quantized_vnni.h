// Matrices of every quantised type with VNNI, on vectors of 512 or 256 bits. Included only by
// matrix_quantized_*_vnni.cpp; internal linkage.
//
// Formula: x is quantised to int8 a with a scale per row and 32 k (x ~ scale a). A weight is
// (d s) (u - offset) + (m t), as codec.h has it of its type; u is its code, an unsigned byte (signed ones
// take 128 more, by flipping their sign bit). Per group of 32 or, for types whose s and t belong to 16, 16 k
//   y += ((d s) scale) (sum(u a) - offset sum(a)), then y += (m t) (scale sum(a)) where the type has minima,
// one fp32 chain over groups per output, the same in GEMV and GEMM. vpdpbusd adds up the integers, exactly,
// from -offset sum(a).
//
// Layout: panels of 32 or 16 rows (panel_layout.h), two vectors. A thread owns whole panels. Up to 6 or 4
// rows (GEMV): codes unpack in registers and are read once, in order; the limit is memory bandwidth. Up to
// two such tiles: the same, tile by tile, over a chunk of a panel. More (GEMM): a chunk of 512 k of a panel
// is unpacked once into L1 (20 or 10 KB) and meets the rows tile by tile; the limit is two vpdpbusd a cycle.
// On 512 bits a Xeon reaches 50 to 54 % of that at 512 rows (q8_0, q4_0; 46 % q4_k), and reads one row at 90
// % of a plain read (kernel_bench). 256 bits have not been measured; tests run both under emulation.
#pragma once

#include "kernels/cpu/codec.h"
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

/// T rows of 32 k, by quads. `sums` of each group: -offset sum(a) as int32 or scale sum(a) as float.
template <int kGroups, int T>
struct ByteTile {
  int8_t a[8][T][4];
  float scale[T];
  int32_t sums[kGroups][T];
};

// I has beyond what codec.h asks for:
//   kTile (rows of activations whose sums fit the registers), zero_sums, broadcast_quad, flip_signs (of
//   bytes), dot_bytes(sums, u, a) (vpdpbusd); on floats load_floats, store_floats (of aligned ones),
//   broadcast_float, zero, negate, multiply, multiply_add, to_float (of Int)
template <class I, DType kType>
struct Quantized {
  using C = Codec<I, kType>;
  using Int = typename I::Int;
  using Float = typename I::Float;
  static constexpr int kGroups = 32 / C::kGroup, kOffset = C::kIsSigned ? 128 : C::kOffset;
  template <int T>
  using Tile = ByteTile<kGroups, T>;

  static constexpr int kPanelRows = C::kRows, kTile = I::kTile, kPackedTiles = 2;
  template <int T>
  static constexpr int kPanelsAtOnce = 1;
  static constexpr int64_t kUnit = 32 * C::kSubblocks, kUnitBytes = C::kUnitBytes;
  static constexpr int64_t kMaxChunk = 16 / C::kSubblocks, kRowUnitBytes = C::kSubblocks * sizeof(Tile<1>);

  /// Of a group: d s and m t.
  struct Scales {
    float d[2][I::kWidth];
    float m[C::kMinimum ? 2 : 1][I::kWidth];
  };
  /// Of a subblock.
  struct Block {
    uint8_t w[8][2][4 * I::kWidth];
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
  static Int load_quad(const std::byte* unit, int s, int q, int v) {
    const Int codes = C::quad(unit, s, q, v);
    return C::kIsSigned ? I::flip_signs(codes) : codes;
  }
  /// The scales of group g of subblock s.
  static void load_scales(const std::byte* unit, int s, int g, Scales& to) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      Float d = C::d(unit, v);
      if constexpr (C::kHasScales) d = I::multiply(d, I::to_float(C::scale(unit, s * kGroups + g, v)));
      I::store_floats(to.d[v], d);
      if constexpr (C::kMinimum != 0) {
        Float m = C::m(unit, v);
        if constexpr (C::kMinimum < 0) m = I::negate(m);
        if constexpr (C::kHasScales) m = I::multiply(m, I::to_float(C::minimum(unit, s * kGroups + g, v)));
        I::store_floats(to.m[v], m);
      }
    }
  }

  /// What the integer sum of a row starts at.
  static Int first_sum(int32_t sum) { return I::broadcast(kOffset == 0 ? 0 : sum); }
  /// acc += a group's.
  static Float add_group(Float acc, Int products, const Scales& scales, int v, float scale, int32_t sum) {
    const Float scaled = I::multiply(I::load_floats(scales.d[v]), I::broadcast_float(scale));
    acc = I::multiply_add(I::to_float(products), scaled, acc);
    if constexpr (C::kMinimum != 0)
      acc = I::multiply_add(I::load_floats(scales.m[v]), I::as_float(I::broadcast(sum)), acc);
    return acc;
  }

  template <int T>
  static void load(const float* sums, Float (&acc)[T][2]) {
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) acc[t][v] = I::load_floats(sums + (2 * t + v) * I::kWidth);
  }
  template <int T>
  static void save(float* sums, const Float (&acc)[T][2]) {
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) I::store_floats(sums + (2 * t + v) * I::kWidth, acc[t][v]);
  }

  template <int T, int>
  __attribute__((noinline)) static void multiply_packed(const std::byte* unit, int64_t,
                                                        const std::byte* activations, int64_t length,
                                                        float* sums) {
    constexpr int64_t kSubblockBytes = (kUnitBytes / C::kSubblocks + 63) / 64 * 64;
    const auto* x = reinterpret_cast<const Tile<T>*>(activations);
    Float acc[T][2];
    load(sums, acc);
    for (int64_t u = 0; u < length; ++u, unit += kUnitBytes)
      for (int s = 0; s < C::kSubblocks; ++s, ++x) {
        prefetch<kSubblockBytes>(unit + s * kSubblockBytes, kPrefetchBytes);
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          alignas(64) Scales scales;
          load_scales(unit, s, g, scales);
          Int products[T][2];
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sums[g][t]);
#pragma GCC unroll 8
          for (int q = g * 8 / kGroups; q < (g + 1) * 8 / kGroups; ++q)
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v) {
              const Int w = load_quad(unit, s, q, v);
#pragma GCC unroll 6
              for (int t = 0; t < T; ++t)
                products[t][v] = I::dot_bytes(products[t][v], w, I::broadcast_quad(x->a[q][t]));
            }
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v)
#pragma GCC unroll 6
            for (int t = 0; t < T; ++t)
              acc[t][v] = add_group(acc[t][v], products[t][v], scales, v, x->scale[t], x->sums[g][t]);
        }
      }
    save(sums, acc);
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    Block* out = wide.blocks;
    for (int64_t u = 0; u < length; ++u, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
      for (int s = 0; s < C::kSubblocks; ++s, ++out) {
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) I::store(out->w[q][v], load_quad(panel, s, q, v));
        for (int g = 0; g < kGroups; ++g) load_scales(panel, s, g, out->scales[g]);
      }
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const Tile<T>*>(activations);
    Float acc[T][2];
    load(sums, acc);
    for (int64_t b = 0; b < length * C::kSubblocks; ++b, ++w, ++x)
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
        Int products[T][2];
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) products[t][0] = products[t][1] = first_sum(x->sums[g][t]);
#pragma GCC unroll 8
        for (int q = g * 8 / kGroups; q < (g + 1) * 8 / kGroups; ++q) {
          const Int w0 = I::load(w->w[q][0]), w1 = I::load(w->w[q][1]);
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t) {
            const Int a = I::broadcast_quad(x->a[q][t]);
            products[t][0] = I::dot_bytes(products[t][0], w0, a);
            products[t][1] = I::dot_bytes(products[t][1], w1, a);
          }
        }
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v)
#pragma GCC unroll 6
          for (int t = 0; t < T; ++t)
            acc[t][v] = add_group(acc[t][v], products[t][v], w->scales[g], v, x->scale[t], x->sums[g][t]);
      }
    save(sums, acc);
  }
};

template <class I, DType kType>
constexpr MatrixKernel quantized() {
  return kernel<Quantized<I, kType>>({kType, 2 * I::kWidth}, ComputeType::kInt8);
}

}  // namespace
}  // namespace redline::cpu
