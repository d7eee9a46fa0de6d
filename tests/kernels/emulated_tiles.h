// AMX's tile registers as arrays of a thread's own, with the interface of kernels/cpu/amx_tiles.h. Included
// after it.
#pragma once

#include <cstring>

#include "kernels/convert.h"
#include "kernels/cpu/amx_tiles.h"

namespace redline::cpu {
namespace {

struct EmulatedTiles {
  static void configure(const TileShapes& shapes) {
    shapes_ = shapes;
    std::memset(tiles_, 0, sizeof(tiles_));
  }
  static void release() { shapes_ = {}; }

  template <int kTile>
  static void load(const void* from, int64_t stride) {
    zero<kTile>();
    for (int r = 0; r < shapes_.rows[kTile]; ++r)
      std::memcpy(tiles_[kTile][r], static_cast<const std::byte*>(from) + r * stride,
                  shapes_.row_bytes[kTile]);
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    for (int r = 0; r < shapes_.rows[kTile]; ++r)
      std::memcpy(static_cast<std::byte*>(to) + r * stride, tiles_[kTile][r], shapes_.row_bytes[kTile]);
  }
  template <int kTile>
  static void zero() {
    std::memset(tiles_[kTile], 0, sizeof(tiles_[kTile]));
  }

  template <int kSums, int kA, int kB>
  static void dot_bytes() {
    for_each<kSums, int32_t>([](int r, int c, int32_t& sum) {
      for (int i = 0; i < shapes_.rows[kB]; ++i)
        for (int j = 0; j < 4; ++j)
          sum += element<int8_t>(kA, r, 4 * i + j) * element<int8_t>(kB, i, 4 * c + j);
    });
  }
  /// Even and odd products apart, then both: as the processor's manual has it.
  template <int kSums, int kA, int kB>
  static void dot_bf16() {
    for_each<kSums, float>([](int r, int c, float& sum) {
      float halves[2] = {};
      for (int i = 0; i < shapes_.rows[kB]; ++i)
        for (int j = 0; j < 2; ++j)
          halves[j] += bf16_to_f32(element<uint16_t>(kA, r, 2 * i + j)) *
                       bf16_to_f32(element<uint16_t>(kB, i, 2 * c + j));
      sum += halves[0] + halves[1];
    });
  }

 private:
  template <class T>
  static T element(int tile, int row, int index) {
    T value;
    std::memcpy(&value, tiles_[tile][row] + static_cast<size_t>(index) * sizeof(T), sizeof(T));
    return value;
  }
  template <int kTile, class T, class Add>
  static void for_each(Add&& add) {
    for (int r = 0; r < shapes_.rows[kTile]; ++r)
      for (int c = 0; c < shapes_.row_bytes[kTile] / static_cast<int>(sizeof(T)); ++c) {
        T sum = element<T>(kTile, r, c);
        add(r, c, sum);
        std::memcpy(tiles_[kTile][r] + static_cast<size_t>(c) * sizeof(T), &sum, sizeof(T));
      }
  }

  inline static thread_local TileShapes shapes_;
  inline static thread_local std::byte tiles_[8][16][64];
};

}  // namespace
}  // namespace redline::cpu
