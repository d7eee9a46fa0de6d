#include "kernels/cpu/panel_layout.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/convert.h"

namespace redline::cpu {
namespace {

std::int64_t padded_k(const PanelFormat& format, std::int64_t k) {
  return format.k_pairs ? (k + 1) / 2 * 2 : k;
}

// Where element (k, row) of a float panel lies, in elements.
std::int64_t element_index(const PanelFormat& format, std::int64_t k, std::int64_t row) {
  return format.k_pairs ? (k / 2 * format.rows + row) * 2 + k % 2 : k * format.rows + row;
}

template <class Element>
void pack_elements(const PanelFormat& format, std::byte* panel, const std::byte* const* rows,
                   std::int64_t k) {
  constexpr std::int64_t kPiece = 64;  // of k: a piece of every row stays in L1
  auto* out = reinterpret_cast<Element*>(panel);
  std::fill(out + element_index(format, std::max<std::int64_t>(k - 1, 0), 0),
            out + padded_k(format, k) * format.rows, Element{});
  for (std::int64_t k0 = 0; k0 < k; k0 += kPiece)
    for (int r = 0; r < format.rows; ++r)
      for (std::int64_t i = k0; i < std::min(k, k0 + kPiece); ++i) {
        Element e{};
        if (rows[r]) std::memcpy(&e, rows[r] + i * static_cast<std::int64_t>(sizeof e), sizeof e);
        out[element_index(format, i, r)] = e;
      }
}

template <DType kType, int kRows>
void pack_blocks(std::byte* panel, const std::byte* const* rows, std::int64_t k) {
  using Layout = BlockLayout<kType>;
  static constexpr std::byte kZero[Layout::kBytes] = {};
  for (std::int64_t b = 0; b < k / 32; ++b, panel += kRows * Layout::kBytes)
    for (int r = 0; r < kRows; ++r) {
      const std::byte* block = rows[r] ? rows[r] + b * Layout::kBytes : kZero;
      for (int h = 0; h < Layout::kHeaderHalves; ++h)
        std::memcpy(panel + (h * kRows + r) * 2, block + 2 * h, 2);
      std::byte* quads = panel + kRows * Layout::kHeaderBytes;
      for (int q = 0; q < Layout::kQuads; ++q)
        std::memcpy(quads + (q * kRows + r) * 4, block + Layout::kHeaderBytes + 4 * q, 4);
    }
}

template <DType kType>
void pack_blocks(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k) {
  if (format.rows == 16) return pack_blocks<kType, 16>(panel, rows, k);
  REDLINE_CHECK(format.rows == 32, "panels of 16 or 32 rows");
  pack_blocks<kType, 32>(panel, rows, k);
}

// Gathers each block back into the type's own bytes, so that their meaning is written down once.
template <DType kType>
void unpack_blocks(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k, float* out) {
  using Layout = BlockLayout<kType>;
  for (std::int64_t b = 0; b < k / 32; ++b, panel += format.rows * Layout::kBytes) {
    std::byte block[Layout::kBytes];
    for (int h = 0; h < Layout::kHeaderHalves; ++h)
      std::memcpy(block + 2 * h, panel + (h * format.rows + row) * 2, 2);
    const std::byte* quads = panel + format.rows * Layout::kHeaderBytes;
    for (int q = 0; q < Layout::kQuads; ++q)
      std::memcpy(block + Layout::kHeaderBytes + 4 * q, quads + (q * format.rows + row) * 4, 4);
    dequantize_row(kType, block, 32, out + 32 * b);
  }
}

// [block][row][bytes].
void pack_whole_blocks(const PanelFormat& format, std::byte* panel, const std::byte* const* rows,
                       std::int64_t k) {
  const int elements = traits(format.dtype).block_elements, bytes = traits(format.dtype).block_bytes;
  for (std::int64_t b = 0; b < k / elements; ++b)
    for (int r = 0; r < format.rows; ++r, panel += bytes) {
      if (rows[r])
        std::memcpy(panel, rows[r] + b * bytes, static_cast<std::size_t>(bytes));
      else
        std::memset(panel, 0, static_cast<std::size_t>(bytes));
    }
}

void unpack_whole_blocks(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k,
                         float* out) {
  const int elements = traits(format.dtype).block_elements, bytes = traits(format.dtype).block_bytes;
  for (std::int64_t b = 0; b < k / elements; ++b)
    dequantize_row(format.dtype, panel + (b * format.rows + row) * bytes, elements, out + b * elements);
}

}  // namespace

std::int64_t panel_bytes(const PanelFormat& format, std::int64_t k) {
  return format.rows * row_bytes(format.dtype, padded_k(format, k));
}

void pack_panel(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k) {
  if (format.whole_blocks) return pack_whole_blocks(format, panel, rows, k);
  switch (format.dtype) {
    case DType::kF32:
      return pack_elements<std::uint32_t>(format, panel, rows, k);
    case DType::kF16:
    case DType::kBF16:
      return pack_elements<std::uint16_t>(format, panel, rows, k);
    case DType::kQ8_0:
      return pack_blocks<DType::kQ8_0>(format, panel, rows, k);
    case DType::kQ4_0:
      return pack_blocks<DType::kQ4_0>(format, panel, rows, k);
    case DType::kQ4_1:
      return pack_blocks<DType::kQ4_1>(format, panel, rows, k);
    default:
      REDLINE_CHECK(false, "a type that has panels");
  }
}

void unpack_panel_row(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k,
                      float* out) {
  if (format.whole_blocks) return unpack_whole_blocks(format, panel, row, k, out);
  switch (format.dtype) {
    case DType::kQ8_0:
      return unpack_blocks<DType::kQ8_0>(format, panel, row, k, out);
    case DType::kQ4_0:
      return unpack_blocks<DType::kQ4_0>(format, panel, row, k, out);
    case DType::kQ4_1:
      return unpack_blocks<DType::kQ4_1>(format, panel, row, k, out);
    default:
      for (std::int64_t i = 0; i < k; ++i)
        dequantize_row(format.dtype, panel + row_bytes(format.dtype, element_index(format, i, row)), 1,
                       out + i);
  }
}

}  // namespace redline::cpu
