// The tile registers of Intel's AMX, as the kernels of matrix_amx.h use them: eight, each up to 16 rows of 64
// bytes. Instructions by name rather than by intrinsics, which GCC does not order after the stores that they
// load from. Included only by *_avx512_amx.cpp; internal linkage. Tests have another class of this interface,
// which runs anywhere (tests/kernels/emulated_tiles.h).
#pragma once

#include <cstdint>

namespace redline::cpu {
namespace {

/// Rows and bytes of a row of every tile register, as ldtilecfg reads them. All zero: none in use.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t tile_rows, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

struct AmxTiles {
  /// Sets the shapes; all tiles are zero then.
  static void configure(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" ::"m"(shapes)); }
  /// Nothing of the tiles is left for the system to save.
  static void release() { __asm__ volatile("tilerelease"); }

  /// Rows `stride` bytes apart.
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "n"(kTile) : "memory");
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "n"(kTile) : "memory");
  }
  template <int kTile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"n"(kTile));
  }
  /// sums[r][c] (int32) += the four products of signed bytes a[r][4 i + j] b[i][4 c + j], for every i.
  template <int kSums, int kA, int kB>
  static void dot_bytes() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"n"(kSums), "n"(kA), "n"(kB));
  }
  /// sums[r][c] (fp32) += the two products of bf16 a[r][2 i + j] b[i][2 c + j], for every i.
  template <int kSums, int kA, int kB>
  static void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"n"(kSums), "n"(kA), "n"(kB));
  }
};

}  // namespace
}  // namespace redline::cpu
