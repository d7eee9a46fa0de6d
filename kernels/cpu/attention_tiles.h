// Attention's two products by AMX's tiles, for a cache of bf16. A row of queries or weights is the
// sum of two of bf16, which together hold 16 bits of each value: products keep what fp32 would.
//
// An element is one chain over steps, the upper parts' products before the lower ones', whatever rows and
// columns are computed beside it. The limit is a tdpbf16ps of 16 rows in 16 cycles, two for each product;
// those of weights V have half the depth (16 tokens).
#pragma once

#include <type_traits>
#include <utility>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/attention.h"

namespace redline::cpu {

/// Up to kMaxTileRows rows in tiles of as many rows each, the last of which may begin among those of the one
/// before.
template <class L>
struct SplitRows {
  int num_tiles = 0, tile_rows = 0, first_of_last = 0, steps = 0, step_columns = 0;
  alignas(64) std::uint16_t upper[kMaxTileRows * kMaxHeadDim];
  alignas(64) std::uint16_t lower[kMaxTileRows * kMaxHeadDim];

  /// Rows of `columns` floats kScratchStride apart; `per_step` (16 or 32) columns are a step's.
  void fill(const float* rows, int num_rows, int columns, int per_step) {
    num_tiles = (num_rows + 15) / 16;
    tile_rows = (num_rows + num_tiles - 1) / num_tiles;
    first_of_last = num_rows - tile_rows;
    steps = columns / per_step;
    step_columns = per_step;
    for (int tile = 0; tile < num_tiles; ++tile)
      for (int row = 0; row < tile_rows; ++row) {
        const float* from = rows + (first_row(tile) + row) * kScratchStride;
        for (int i = 0; i < columns; i += 16) {
          const int to = offset(tile, i / per_step) + row * per_step + i % per_step;
          L::load(from + i).store_split(upper + to, lower + to);
        }
      }
  }
  int first_row(int tile) const { return tile + 1 < num_tiles ? tile * tile_rows : first_of_last; }
  int offset(int tile, int step) const { return (tile * steps + step) * 16 * step_columns; }
};

template <class L, class Tiles>
class TileProducts {
 public:
  /// to[row][16 p + c] = the sum over all columns of `rows` times panel p of `panels`, whose rows of 16 pairs
  /// for step s begin at from(p, s), `stride` bytes apart. `to` has rows kScratchStride apart.
  template <class From>
  static void multiply(const SplitRows<L>& rows, int panels, std::int64_t stride, From&& from, float* to) {
    TileShapes shapes;
    for (int i = 0; i < 4; ++i) shapes.set(i, rows.tile_rows, 64);
    for (int i = 4; i < 6; ++i) shapes.set(i, rows.tile_rows, 2 * rows.step_columns);
    for (int i = 6; i < 8; ++i) shapes.set(i, rows.step_columns / 2, 64);
    Tiles::configure(shapes);
    if (rows.num_tiles == 1)
      multiply_panels<1, 4>(rows, panels, stride, from, to);
    else if (rows.num_tiles == 2)
      multiply_panels<2, 2>(rows, panels, stride, from, to);
    else
      multiply_panels<3, 1>(rows, panels, stride, from, to);
  }

 private:
  template <int kCount, class Body>
  [[gnu::always_inline]] static void for_each(Body&& body) {
    [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) {
      (body(std::integral_constant<int, kIndex>{}), ...);
    }
    (std::make_integer_sequence<int, kCount>{});
  }

  template <int kNumTiles, int kAtOnce, class From>
  static void multiply_panels(const SplitRows<L>& rows, int panels, std::int64_t stride, From& from,
                              float* to) {
    int panel = 0;
    for (; panel + kAtOnce <= panels; panel += kAtOnce)
      multiply_some<kNumTiles, kAtOnce>(rows, panel, stride, from, to);
    for (; panel < panels; ++panel) multiply_some<kNumTiles, 1>(rows, panel, stride, from, to);
  }

  // Sums in tiles 0 to 3, upper and lower rows in 4 and 5, panels in 6 and 7.
  template <int kNumTiles, int kAtOnce, class From>
  static void multiply_some(const SplitRows<L>& rows, int first, std::int64_t stride, From& from, float* to) {
    static_assert(kNumTiles * kAtOnce <= 4 && (kNumTiles == 1 || kAtOnce <= 2));
    const std::int64_t row_bytes = 2 * rows.step_columns;
    for_each<kNumTiles * kAtOnce>([](auto i) { Tiles::template zero<i>(); });
    for (int step = 0; step < rows.steps; ++step) {
      const auto load_panel = [&](auto p) { Tiles::template load<6 + p % 2>(from(first + p, step), stride); };
      const auto load_rows = [&](auto tile) {
        Tiles::template load<4>(rows.upper + rows.offset(tile, step), row_bytes);
        Tiles::template load<5>(rows.lower + rows.offset(tile, step), row_bytes);
      };
      const auto add = [](auto tile, auto p) {
        constexpr int kSum = tile * kAtOnce + p, kPanel = 6 + p % 2;
        Tiles::template dot_bf16<kSum, 4, kPanel>();
        Tiles::template dot_bf16<kSum, 5, kPanel>();
      };
      if constexpr (kNumTiles == 1) {
        load_rows(std::integral_constant<int, 0>{});
        for_each<kAtOnce>([&](auto p) {
          load_panel(p);
          add(std::integral_constant<int, 0>{}, p);
        });
      } else {
        for_each<kAtOnce>(load_panel);
        for_each<kNumTiles>([&](auto tile) {
          load_rows(tile);
          for_each<kAtOnce>([&](auto p) { add(tile, p); });
        });
      }
    }
    for_each<kNumTiles * kAtOnce>([&](auto i) {
      float* out = to + rows.first_row(i / kAtOnce) * kScratchStride + 16 * (first + i % kAtOnce);
      Tiles::template store<i>(out, kScratchStride * static_cast<std::int64_t>(sizeof(float)));
    });
  }
};

}  // namespace redline::cpu
