// How a matrix lies on the device: its rows of GGUF blocks taken apart into arrays (WeightArrays,
// device_batch.h), so that lanes load whole words and neighbours' words lie side by side.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cuda/device_batch.h"
#include "kernels/dtype.h"

namespace redline::cuda {

/// Whether kernels read matrices of `dtype` packed as they are.
constexpr bool is_read_packed(DType dtype) {
  return dtype == DType::kQ8_0 || dtype == DType::kQ4_0 || dtype == DType::kQ4_1 || dtype == DType::kQ4_K ||
         dtype == DType::kQ6_K;
}

/// One value for each array: quants, high, scales, supers.
template <class T>
using PerWeightArray = std::array<T, 4>;

/// Bytes of a row in each array.
constexpr PerWeightArray<std::int64_t> array_row_bytes(DType dtype, std::int64_t cols) {
  switch (dtype) {
    case DType::kQ8_0:
      return {cols, 0, cols / 32 * 2, 0};
    case DType::kQ4_0:
      return {cols / 2, 0, cols / 32 * 2, 0};
    case DType::kQ4_1:
      return {cols / 2, 0, cols / 32 * 4, 0};
    case DType::kQ4_K:
      return {cols / 2, 0, cols / 256 * 16, 0};
    case DType::kQ6_K:
      return {cols / 2, cols / 4, cols / 16, cols / 256 * 2};
    default:
      return {row_bytes(dtype, cols), 0, 0, 0};
  }
}

/// Where each array begins, each at a multiple of 256 bytes, and the bytes of all.
struct WeightLayout {
  PerWeightArray<std::int64_t> offsets{};
  std::int64_t num_bytes = 0;
};
constexpr WeightLayout weight_layout(DType dtype, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kAlignment = 256;
  const auto bytes = array_row_bytes(dtype, cols);
  WeightLayout layout;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == 0) continue;
    layout.offsets[i] = (layout.num_bytes + kAlignment - 1) / kAlignment * kAlignment;
    layout.num_bytes = layout.offsets[i] + rows * bytes[i];
  }
  return layout;
}

/// The arrays of a matrix that begins at `base`.
inline WeightArrays weight_arrays_at(const std::byte* base, DType dtype, std::int64_t rows,
                                     std::int64_t cols) {
  const WeightLayout layout = weight_layout(dtype, rows, cols);
  const auto at = [&](std::size_t i) { return layout.offsets[i] > 0 ? base + layout.offsets[i] : nullptr; };
  return {.dtype = dtype,
          .quants = base,
          .scales = at(2),
          .rows = rows,
          .cols = cols,
          .high = at(1),
          .supers = at(3)};
}

namespace detail {

inline unsigned byte_at(const std::byte* bytes, int i) { return std::to_integer<unsigned>(bytes[i]); }

// Column i of 256 as 16 bytes for each 32 columns: byte b holds columns b (low) and b + 16 (high).
inline unsigned nibble(const std::byte* quants, int i) {
  return byte_at(quants, i / 32 * 16 + i % 16) >> (i % 32 < 16 ? 0 : 4) & 15;
}
inline void add_nibble(std::byte* quants, int i, unsigned value) {
  quants[i / 32 * 16 + i % 16] |= static_cast<std::byte>(value << (i % 32 < 16 ? 0 : 4));
}
// Column i of 256 in the array of two high bits: its byte, and its shift within.
struct HighPlace {
  int byte;
  int shift;
};
inline HighPlace high_place(int i) {
  const int in_group = i % 32, lane = in_group % 16 / 4, pair = in_group / 16 * 2 + in_group % 4 / 2;
  return {i / 128 * 32 + lane * 8 + i % 128 / 32 * 2 + in_group % 2, 2 * pair};
}

// GGUF's own order of a K block's codes.
struct BlockPlace {
  int byte;
  int shift;
};
inline BlockPlace q4_k_place(int i) { return {16 + i / 64 * 32 + i % 32, i % 64 < 32 ? 0 : 4}; }
inline BlockPlace q6_k_low_place(int i) { return {i / 128 * 64 + i % 64, i % 128 < 64 ? 0 : 4}; }
inline BlockPlace q6_k_high_place(int i) { return {128 + i / 128 * 32 + i % 32, i % 128 / 32 * 2}; }
inline unsigned bits_at(const std::byte* block, BlockPlace place, unsigned mask) {
  return byte_at(block, place.byte) >> place.shift & mask;
}
inline void add_bits(std::byte* block, BlockPlace place, unsigned value) {
  block[place.byte] |= static_cast<std::byte>(value << place.shift);
}

inline void split_q4_k(const std::byte* block, std::byte* quants, std::byte* record) {
  std::memset(quants, 0, 128);
  for (int i = 0; i < 256; ++i) add_nibble(quants, i, bits_at(block, q4_k_place(i), 15));
  std::memset(record, 0, 16);
  std::memcpy(record, block, 4);
  for (int g = 0; g < 8; ++g) {
    const std::byte* const packed = block + 4;
    unsigned scale = byte_at(packed, g % 4) & 63, minimum = byte_at(packed, g % 4 + 4) & 63;
    if (g >= 4) {
      scale = (byte_at(packed, g + 4) & 15) | byte_at(packed, g - 4) >> 6 << 4;
      minimum = byte_at(packed, g + 4) >> 4 | byte_at(packed, g) >> 6 << 4;
    }
    record[4 + g] = static_cast<std::byte>(scale | (minimum & 3) << 6);
    record[12 + g / 2] |= static_cast<std::byte>(minimum >> 2 << (g % 2 * 4));
  }
}
inline void join_q4_k(const std::byte* quants, const std::byte* record, std::byte* block) {
  std::memset(block, 0, 144);
  std::memcpy(block, record, 4);
  for (int i = 0; i < 256; ++i) add_bits(block, q4_k_place(i), nibble(quants, i));
  for (int g = 0; g < 8; ++g) {
    std::byte* const packed = block + 4;
    const unsigned low = byte_at(record, 4 + g), scale = low & 63;
    const unsigned minimum = low >> 6 | (byte_at(record, 12 + g / 2) >> (g % 2 * 4) & 15) << 2;
    if (g < 4) {
      packed[g] |= static_cast<std::byte>(scale);
      packed[g + 4] |= static_cast<std::byte>(minimum);
    } else {
      packed[g + 4] |= static_cast<std::byte>((scale & 15) | (minimum & 15) << 4);
      packed[g - 4] |= static_cast<std::byte>(scale >> 4 << 6);
      packed[g] |= static_cast<std::byte>(minimum >> 4 << 6);
    }
  }
}

inline void split_q6_k(const std::byte* block, std::byte* quants, std::byte* high) {
  std::memset(quants, 0, 128);
  std::memset(high, 0, 64);
  for (int i = 0; i < 256; ++i) {
    add_nibble(quants, i, bits_at(block, q6_k_low_place(i), 15));
    const HighPlace place = high_place(i);
    high[place.byte] |= static_cast<std::byte>(bits_at(block, q6_k_high_place(i), 3) << place.shift);
  }
}
inline void join_q6_k(const std::byte* quants, const std::byte* high, std::byte* block) {
  std::memset(block, 0, 192);
  for (int i = 0; i < 256; ++i) {
    add_bits(block, q6_k_low_place(i), nibble(quants, i));
    const HighPlace place = high_place(i);
    add_bits(block, q6_k_high_place(i), byte_at(high, place.byte) >> place.shift & 3);
  }
}

}  // namespace detail

/// Takes a row of GGUF blocks of a type that is read packed apart; `to` has room for the row in each array.
inline void split_row(DType dtype, const std::byte* row, std::int64_t cols, PerWeightArray<std::byte*> to) {
  const int block_elements = traits(dtype).block_elements, block_bytes = traits(dtype).block_bytes;
  const auto bytes = array_row_bytes(dtype, block_elements);
  for (std::int64_t i = 0; i < cols / block_elements; ++i, row += block_bytes) {
    if (dtype == DType::kQ4_K) {
      detail::split_q4_k(row, to[0], to[2]);
    } else if (dtype == DType::kQ6_K) {
      detail::split_q6_k(row, to[0], to[1]);
      std::memcpy(to[2], row + 192, 16);
      std::memcpy(to[3], row + 208, 2);
    } else {  // scales, then quants
      std::memcpy(to[2], row, static_cast<std::size_t>(bytes[2]));
      std::memcpy(to[0], row + bytes[2], static_cast<std::size_t>(bytes[0]));
    }
    for (std::size_t a = 0; a < to.size(); ++a)
      if (to[a] != nullptr) to[a] += bytes[a];
  }
}

/// The row of GGUF blocks that split_row took apart.
inline void join_row(DType dtype, PerWeightArray<const std::byte*> from, std::int64_t cols, std::byte* row) {
  const int block_elements = traits(dtype).block_elements, block_bytes = traits(dtype).block_bytes;
  const auto bytes = array_row_bytes(dtype, block_elements);
  for (std::int64_t i = 0; i < cols / block_elements; ++i, row += block_bytes) {
    if (dtype == DType::kQ4_K) {
      detail::join_q4_k(from[0], from[2], row);
    } else if (dtype == DType::kQ6_K) {
      detail::join_q6_k(from[0], from[1], row);
      std::memcpy(row + 192, from[2], 16);
      std::memcpy(row + 208, from[3], 2);
    } else {
      std::memcpy(row, from[2], static_cast<std::size_t>(bytes[2]));
      std::memcpy(row + bytes[2], from[0], static_cast<std::size_t>(bytes[0]));
    }
    for (std::size_t a = 0; a < from.size(); ++a)
      if (from[a] != nullptr) from[a] += bytes[a];
  }
}

}  // namespace redline::cuda
