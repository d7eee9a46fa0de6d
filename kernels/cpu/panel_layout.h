// How a packed panel of R rows lies in memory. One layout serves GEMV and GEMM; a panel takes exactly its
// rows' own bytes and is read front to back.
//
// Floats: [k][R], or as pairs [k / 2][R][2] (k rounded up to even) for kernels that multiply bf16 pairs.
// Quantised: blocks of 32 k, each the R scales (fp16), for Q4_1 the R minima, then quads [quad][R][4 bytes]:
// Q8_0 has 8 quads of int8; Q4_x has 4, whose byte i holds k = 4 quad + i low and k = 16 + 4 quad + i high. A
// 32-bit lane is one row's quad, met by a broadcast quad of activations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace redline::cpu {

struct PanelFormat {
  DType dtype = DType::kF32;
  int rows = 0;               // 16 or 32
  bool k_pairs = false;       // 16-bit floats only
  bool whole_blocks = false;  // [block][R][the block's own bytes], for kernels that take blocks as they are
};

template <DType kType>
struct BlockLayout {
  static constexpr int kHeaderHalves = kType == DType::kQ4_1 ? 2 : 1;
  static constexpr int kHeaderBytes = 2 * kHeaderHalves;
  static constexpr int kQuads = kType == DType::kQ8_0 ? 8 : 4;
  static constexpr int kBytes = kHeaderBytes + 4 * kQuads;  // of one row: the type's own block
};

/// Bytes of a panel of k columns.
std::int64_t panel_bytes(const PanelFormat& format, std::int64_t k);
/// rows[format.rows]: each a row in the type's own format, or null for padding (zeros).
void pack_panel(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k);
/// Row `row` of a panel as f32.
void unpack_panel_row(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k, float* out);

}  // namespace redline::cpu
