// BF16 matrices on AMX. Included only by matrix_float_avx512_amx.cpp and by tests; internal linkage.
//
// Formula: x is rounded to bf16 (nearest even); y += the 32 products of a unit of k, as tdpbf16ps adds them
// up, unit after unit: one chain per output, the same for one row and for many.
//
// Layout: panels of 32 rows by pairs (panel_layout.h): [k / 2][32][2], of which a tile's 16 columns are every
// other line. Up to two tiles of activations (32 rows): the limit is memory bandwidth, of
// which one row reaches 83 to 89 %; more: a tdpbf16ps of 16 rows in 16 cycles. Four of those need four loads
// of tiles, which overlap them only in part: at 512 rows a Xeon reaches 30 to 33 % of its peak
// (kernel_bench), five times what fp32 FMA attains.
#pragma once

#include "kernels/cpu/matrix_amx.h"
#include "kernels/cpu/simd_avx512.h"

namespace redline::cpu {
namespace {

template <class TileRegisters>
struct AmxBF16 {
  using Tiles = TileRegisters;
  static constexpr int64_t kUnit = 32, kMaxChunk = 8;
  static constexpr int64_t kUnitBytes = kUnit * kAmxPanelRows * 2, kTileUnitBytes = kTileRows * kUnit * 2;
  static constexpr int64_t kStreamAhead = 1024;  // as measured on a Xeon of 2.6 GHz
  struct Wide {};

  static int64_t panel_bytes(int64_t k) { return ceil_of(k, 2) * kAmxPanelRows * 4; }

  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t rows, int64_t k) {
    for (int64_t u = 0; u < k; u += kUnit, out += kTileUnitBytes)
      for (int64_t t = 0; t < rows; ++t) {
        alignas(64) float unit[kUnit] = {};
        memcpy(unit, x + t * x_stride + u, static_cast<size_t>(min_of(kUnit, k - u)) * sizeof(float));
        uint16_t halves[kUnit];
        for (int i = 0; i < kUnit; ++i) halves[i] = static_cast<uint16_t>(bf16_bits(unit[i]));
        memcpy(out + t * kUnit * 2, halves, sizeof(halves));
      }
  }

  static const std::byte* widen(const std::byte* panel, int64_t, Wide&) { return panel; }

  static void configure(int64_t rows, int64_t k) {
    TileShapes shapes;
    for (int i = 0; i < 4; ++i) shapes.set(i, rows, 64);
    for (int i = 4; i < 6; ++i) shapes.set(i, rows, ceil_of(k, 2) * 4);
    for (int i = 6; i < 8; ++i) shapes.set(i, ceil_of(k, 2), 64);
    Tiles::configure(shapes);
  }

  static void multiply(const std::byte* w, const std::byte* x, int64_t length, int64_t k, int64_t rows,
                       int64_t tiles, float* sums, Ahead ahead) {
    const int64_t stride = length * kTileUnitBytes, units = k / kUnit;
    const auto add = [&](int64_t first, int64_t count) {
      const std::byte *panel = w + first * kUnitBytes, *tile = x + first * kTileUnitBytes;
      if (tiles <= 2)
        return (tiles == 1 ? add_units<1, true> : add_units<2, true>)(panel, tile, stride, count, sums);
      for (int64_t t = 0; t < tiles; t += 2) {
        ahead.touch(t / 2, ceil_of(tiles, 2));
        (t + 1 < tiles ? add_units<2, false> : add_units<1, false>)(panel, tile + t * stride, stride, count,
                                                                    sums + t * kTileSums);
      }
    };
    if (units > 0) add(0, units);
    if (units == length) return;
    ahead.bytes = 0;
    configure(rows, k % kUnit);
    add(units, 1);
    configure(rows, kUnit);
  }

 private:
  // kStreams: weights come from memory, and are asked for as they go by.
  template <int T, bool kStreams>
  static void add_units(const std::byte* w, const std::byte* x, int64_t stride, int64_t units, float* sums) {
    constexpr int64_t kRowBytes = kAmxPanelRows * 4;
    float* second = sums + kTileSums;
    Tiles::template load<0>(sums, kRowBytes);
    Tiles::template load<1>(sums + 16, kRowBytes);
    if constexpr (T == 2) {
      Tiles::template load<2>(second, kRowBytes);
      Tiles::template load<3>(second + 16, kRowBytes);
    }
    for (int64_t u = 0; u < units; ++u, w += kUnitBytes, x += kTileUnitBytes) {
      if constexpr (kStreams) prefetch<kUnitBytes>(w, kStreamAhead);
      Tiles::template load<4>(x, 64);
      Tiles::template load<6>(w, kRowBytes);
      Tiles::template dot_bf16<0, 4, 6>();
      Tiles::template load<7>(w + 64, kRowBytes);
      Tiles::template dot_bf16<1, 4, 7>();
      if constexpr (T == 2) {
        Tiles::template load<5>(x + stride, 64);
        Tiles::template dot_bf16<2, 5, 6>();
        Tiles::template dot_bf16<3, 5, 7>();
      }
    }
    Tiles::template store<0>(sums, kRowBytes);
    Tiles::template store<1>(sums + 16, kRowBytes);
    if constexpr (T == 2) {
      Tiles::template store<2>(second, kRowBytes);
      Tiles::template store<3>(second + 16, kRowBytes);
    }
  }
};

template <class Tiles>
constexpr MatrixKernel bf16_amx() {
  return amx_kernel<AmxBF16<Tiles>>({DType::kBF16, kAmxPanelRows, true}, ComputeType::kBF16);
}

}  // namespace
}  // namespace redline::cpu
