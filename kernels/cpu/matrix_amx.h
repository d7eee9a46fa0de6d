// The frame of the matrix kernels that multiply by AMX's tiles: 16 rows of activations by 16 of a panel's 32
// rows at a time. Included only by matrix_*_avx512_amx.cpp and by tests; internal linkage.
//
// A kernel K multiplies panels of 32 rows in units of kUnit k:
//   kMaxChunk                most units in a chunk
//   kUnitBytes               of a panel; kTileUnitBytes: of a tile of 16 prepared rows
//   panel_bytes(k)           of a whole panel
//   prepare_tile             prepares up to 16 rows of a chunk of `k` elements. Sums of the rows up to 16
//   that it
//                            leaves are computed, from whatever lies there, and not stored
//   Wide                     a chunk of a panel as tiles load it; widen(panel, length, wide) fills it or
//                            returns the panel itself
//   configure(rows, k)       shapes of the tiles for so many rows, and for k elements of a unit
//   multiply                 sums[tiles][16][32] += a chunk of `length` units, `k` elements, times so many
//                            tiles of `rows` rows, touching what `ahead` names meanwhile
//
// Prepared rows lie as [chunk][tile][unit][16 rows]. A chunk's tiles stay in L2 while several panels pass, a
// panel's chunk in L1 while the tiles pass; sums of a task lie in a compact array in L2.
#pragma once

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

constexpr int64_t kTileRows = 16, kAmxPanelRows = 32;
constexpr int64_t kTileSums = kTileRows * kAmxPanelRows;

/// Bytes to touch before they are needed.
struct Ahead {
  const std::byte* at;
  int64_t bytes;

  /// The share of step i of n.
  void touch(int64_t i, int64_t n) const {
    const int64_t lines = bytes / 64;
    for (int64_t line = lines * i / n; line < lines * (i + 1) / n; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(at + 64 * line), _MM_HINT_T1);
  }
};

template <class K>
struct AmxFrame {
  static constexpr int64_t kMaxRows = 512, kMaxPanels = 8;

  static int64_t activation_bytes(int64_t m, int64_t k) {
    return ceil_of(m, tile_rows(m, kTileRows)) * ceil_of(k, K::kUnit) * K::kTileUnitBytes;
  }

  static void prepare(std::byte* activations, const float* x, int64_t x_stride, int64_t m, int64_t k,
                      int64_t first, int64_t count) {
    const int64_t tile = tile_rows(m, kTileRows), tiles = ceil_of(m, tile);
    const Chunks chunks(ceil_of(k, K::kUnit), K::kMaxChunk);
    for (int64_t u = 0; u < chunks.total; u += chunks.size)
      for (int64_t row = first; row < first + count; row += tile) {
        const int64_t length = chunks.length(u);
        K::prepare_tile(activations + (u * tiles + length * (row / tile)) * K::kTileUnitBytes,
                        x + row * x_stride + u * K::kUnit, x_stride, min_of(tile, first + count - row),
                        min_of(k - u * K::kUnit, length * K::kUnit));
      }
  }

  static void multiply(const LinearTask& task, int64_t first_panel, int64_t last_panel, int64_t first_row,
                       int64_t last_row) {
    alignas(64) float sums[kMaxPanels * (kMaxRows / kTileRows + 1) * kTileSums];
    const int64_t tile = tile_rows(task.m, kTileRows), all_tiles = ceil_of(task.m, tile);
    const int64_t first_tile = first_row / tile, tiles = ceil_of(last_row - first_row, tile);
    const int64_t panel_bytes = K::panel_bytes(task.k);
    // A pair of tiles alone is bound by memory: panel after panel.
    const int64_t most_panels = tiles <= 2 ? 1 : kMaxPanels;
    K::configure(tile, K::kUnit);
    for (int64_t panel = first_panel; panel < last_panel; panel += most_panels) {
      const int64_t panels = min_of(most_panels, last_panel - panel);
      memset(sums, 0, static_cast<size_t>(panels * tiles * kTileSums) * sizeof(float));
      const std::byte* weight = task.weight + panel * panel_bytes;
      const Chunks chunks(ceil_of(task.k, K::kUnit), K::kMaxChunk);
      for (int64_t u = 0; u < chunks.total; u += chunks.size) {
        const int64_t length = chunks.length(u), k = min_of(task.k - u * K::kUnit, length * K::kUnit);
        const std::byte* x = task.activations + (u * all_tiles + length * first_tile) * K::kTileUnitBytes;
        for (int64_t p = 0; p < panels; ++p) {
          const std::byte* packed = weight + p * panel_bytes + u * K::kUnitBytes;
          const std::byte* next = panels == 1      ? packed + kPrefetchBytes
                                  : p + 1 < panels ? packed + panel_bytes
                                                   : weight + (u + length) * K::kUnitBytes;
          alignas(64) typename K::Wide wide;
          const auto* w = K::widen(packed, length, wide);
          K::multiply(w, x, length, k, tile, tiles, sums + p * tiles * kTileSums,
                      Ahead{next, length * K::kUnitBytes});
        }
      }
      for (int64_t row = first_row; row < last_row; ++row) {
        const int64_t t = (row - first_row) / tile, in_tile = (row - first_row) % tile;
        for (int64_t p = 0; p < panels; ++p)
          store_row<kAmxPanelRows>(task, panel + p, row,
                                   sums + (p * tiles + t) * kTileSums + in_tile * kAmxPanelRows);
      }
    }
    K::Tiles::release();
  }
};

template <class K>
constexpr MatrixKernel amx_kernel(PanelFormat format, ComputeType compute) {
  using Frame = AmxFrame<K>;
  return {.panel = format,
          .max_tile_rows = kTileRows,
          .max_task_rows = Frame::kMaxRows,
          .compute = compute,
          .activation_bytes = Frame::activation_bytes,
          .prepare = Frame::prepare,
          .multiply = Frame::multiply};
}

}  // namespace
}  // namespace redline::cpu
