// Matrices of every quantised type on AMX, for more rows than VNNI's registers take; those few it leaves to
// matrix_quantized_vnni.h, whose formula and bits are the same. Included only by
// matrix_quantized_avx512_amx.cpp and by tests; internal linkage.
//
// Layout: a chunk of a panel is unpacked into L1 once, codes as signed bytes by quads, so that a tile's 16
// columns of a group of 32 (16) k are every other line. tdpbssd adds up the integers of 16 rows by 16
// columns, exactly; they pass through a ring in L1 and are scaled into fp32 sums in registers, in the order
// of groups. The limit is not tdpbssd (16 cycles for a group of 32) but what follows it: a tile's store (16)
// and for each row a conversion, a product and a multiply-add on two ports (24), which overlap in part. At
// 512 rows a Xeon reaches 1.5 times what VNNI does (10 to 11 % of its peak of int8, kernel_bench).
#pragma once

#include "kernels/cpu/matrix_amx.h"
#include "kernels/cpu/simd_avx512_vnni.h"

namespace redline::cpu {
namespace {

template <class TileRegisters, DType kType>
struct AmxQuantized {
  using Tiles = TileRegisters;
  using Vnni = Quantized<Avx512Vnni, kType>;
  using C = typename Vnni::C;
  using Scales = typename Vnni::Scales;
  static constexpr int kGroups = Vnni::kGroups;
  static constexpr int64_t kUnit = Vnni::kUnit, kUnitBytes = Vnni::kUnitBytes, kMaxChunk = Vnni::kMaxChunk;

  /// 16 rows of 32 k. `sums` of each group: scale sum(a), for types with minima.
  struct Block {
    int8_t a[kTileRows][32];
    float scale[kTileRows];
    float sums[C::kMinimum ? kGroups : 0][kTileRows];
  };
  static constexpr int64_t kTileUnitBytes = C::kSubblocks * static_cast<int64_t>(sizeof(Block));

  /// Of 32 k of a panel: quads of codes, less their offset, and the scales of each group.
  struct WideBlock {
    int8_t w[8][2][64];
    Scales scales[kGroups];
  };
  struct Wide {
    alignas(64) WideBlock blocks[kMaxChunk * C::kSubblocks];
  };

  static int64_t panel_bytes(int64_t k) { return k / kUnit * kUnitBytes; }

  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t rows, int64_t k) {
    auto* block = reinterpret_cast<Block*>(out);
    for (int64_t b = 0; b < k; b += 32, ++block)
      for (int64_t t = 0; t < kTileRows; ++t) {
        if (t >= rows) {  // their sums are computed too, and nobody reads them
          memset(block->a[t], 0, 32);
          block->scale[t] = 0;
          for (auto& sums : block->sums) sums[t] = 0;
          continue;
        }
        const Quantized32 q = quantize_32(x + t * x_stride + b);
        store_256(block->a[t], q.q);
        block->scale[t] = q.scale;
        if constexpr (C::kMinimum != 0)
          for (int g = 0; g < kGroups; ++g)
            block->sums[g][t] = q.scale * static_cast<float>(kGroups > 1 ? q.sums[g] : q.sums[0] + q.sums[1]);
      }
  }

  static const WideBlock* widen(const std::byte* panel, int64_t length, Wide& wide) {
    WideBlock* out = wide.blocks;
    for (int64_t u = 0; u < length; ++u, panel += kUnitBytes)
      for (int s = 0; s < C::kSubblocks; ++s, ++out) {
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v)
            store_512(out->w[q][v], _mm512_sub_epi8(C::quad(panel, s, q, v), _mm512_set1_epi8(C::kOffset)));
        for (int g = 0; g < kGroups; ++g) Vnni::load_scales(panel, s, g, out->scales[g]);
      }
    return wide.blocks;
  }

  static void configure(int64_t rows, int64_t) {
    TileShapes shapes;
    shapes.set(0, rows, 64);
    shapes.set(1, rows, 32 / kGroups);
    shapes.set(2, 8 / kGroups, 64);
    Tiles::configure(shapes);
  }

  static void multiply(const WideBlock* w, const std::byte* x, int64_t length, int64_t, int64_t rows,
                       int64_t tiles, float* sums, Ahead ahead) {
    (rows > 8 ? add_tiles<16> : add_tiles<8>)(w, reinterpret_cast<const Block*>(x), length * C::kSubblocks,
                                              tiles, sums, ahead);
  }

 private:
  // Products of one group after the other, tile by tile and half by half of the panel, go into a ring.
  // They are read a while after they were stored: a vector cannot be forwarded from a tile's store.
  struct Products {
    static constexpr int64_t kRing = 4, kLag = 2;
    const WideBlock* w;
    const Block* x;
    int64_t blocks, tiles;
    int64_t tile = 0, half = 0, block = 0, group = 0, slot = 0;
    alignas(64) int32_t ring[kRing][kTileRows][16];

    Products(const WideBlock* weights, const Block* rows, int64_t num_blocks, int64_t num_tiles)
        : w(weights), x(rows), blocks(num_blocks), tiles(num_tiles) {}

    void compute_next() {
      if (tile == tiles) return;
      Tiles::template load<1>(x[tile * blocks + block].a[0] + group * (32 / kGroups), 32);
      Tiles::template load<2>(w[block].w[group * (8 / kGroups)][half], 128);
      Tiles::template zero<0>();
      Tiles::template dot_bytes<0, 1, 2>();
      Tiles::template store<0>(ring[slot++ % kRing], 64);
      if (++group < kGroups) return;
      group = 0;
      if (++block < blocks) return;
      block = 0;
      if (++half < 2) return;
      half = 0;
      ++tile;
    }
  };

  // Of a tile's rows the first R, at least as many as there are.
  template <int R>
  __attribute__((noinline)) static void add_tiles(const WideBlock* w, const Block* x, int64_t blocks,
                                                  int64_t tiles, float* sums, Ahead ahead) {
    Products products(w, x, blocks, tiles);
    for (int i = 0; i < Products::kLag; ++i) products.compute_next();
    int64_t slot = 0;
    for (int64_t tile = 0; tile < tiles; ++tile, x += blocks, sums += kTileSums) {
      ahead.touch(tile, tiles);
      for (int half = 0; half < 2; ++half) {
        __m512 acc[R];
#pragma GCC unroll 16
        for (int t = 0; t < R; ++t) acc[t] = _mm512_load_ps(sums + 16 * half + kAmxPanelRows * t);
        for (int64_t b = 0; b < blocks; ++b)
          for (int g = 0; g < kGroups; ++g) {
            products.compute_next();
            const auto& product = products.ring[slot++ % Products::kRing];
            const __m512 d = _mm512_load_ps(w[b].scales[g].d[half]);
#pragma GCC unroll 16
            for (int t = 0; t < R; ++t)
              acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(load_512(product[t])),
                                       _mm512_mul_ps(d, _mm512_set1_ps(x[b].scale[t])), acc[t]);
            if constexpr (C::kMinimum != 0) {
              const __m512 m = _mm512_load_ps(w[b].scales[g].m[half]);
#pragma GCC unroll 16
              for (int t = 0; t < R; ++t)
                acc[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(x[b].sums[g][t]), acc[t]);
            }
          }
#pragma GCC unroll 16
        for (int t = 0; t < R; ++t) _mm512_store_ps(sums + 16 * half + kAmxPanelRows * t, acc[t]);
      }
    }
  }
};

/// VNNI's functions for few rows, AMX's for more.
template <class Tiles, DType kType>
struct ByRows {
  using Few = Quantized<Avx512Vnni, kType>;
  using Many = AmxFrame<AmxQuantized<Tiles, kType>>;
  // As measured on a Xeon of 2.6 GHz; at most a tile, all of whose rows one task takes.
  static constexpr int64_t kFewRows = Few::kGroups > 1 ? 16 : 12;

  static int64_t activation_bytes(int64_t m, int64_t k) {
    return m <= kFewRows ? cpu::activation_bytes<Few>(m, k) : Many::activation_bytes(m, k);
  }
  static void prepare(std::byte* activations, const float* x, int64_t x_stride, int64_t m, int64_t k,
                      int64_t first, int64_t count) {
    (m <= kFewRows ? cpu::prepare<Few> : Many::prepare)(activations, x, x_stride, m, k, first, count);
  }
  static void multiply(const LinearTask& task, int64_t first_panel, int64_t last_panel, int64_t first_row,
                       int64_t last_row) {
    (task.m <= kFewRows ? cpu::multiply<Few> : Many::multiply)(task, first_panel, last_panel, first_row,
                                                               last_row);
  }
};

template <class Tiles, DType kType>
constexpr MatrixKernel quantized_amx() {
  using Kernel = ByRows<Tiles, kType>;
  return {.panel = {kType, kAmxPanelRows},
          .max_tile_rows = kTileRows,
          .max_task_rows = Kernel::Many::kMaxRows,
          .compute = ComputeType::kInt8,
          .activation_bytes = Kernel::activation_bytes,
          .prepare = Kernel::prepare,
          .multiply = Kernel::multiply};
}

}  // namespace
}  // namespace redline::cpu
