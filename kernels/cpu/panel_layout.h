// How a packed panel of R rows lies in memory. One layout serves GEMV and GEMM; a panel takes exactly its
// rows' own bytes and is read front to back.
//
// Floats: [k][R], or as pairs [k / 2][R][2] (k rounded up to even) for kernels that multiply bf16 pairs.
// Quantised: unit after unit, each a block of every row: first the fields of the header, each [R], then lanes
// [lane][R] of 32 bits. A lane is one row's: its byte i belongs to element i of a quad, four consecutive k,
// and is met by a broadcast quad of activations. A subblock's 32 k are quads 0 to 7. What a lane holds of
// each of its four bytes:
//   bytes    8 bits of one quad                nibbles  quad 2 l in the low four bits, quad 2 l + 1 in the
//   high pairs    quads 4 l to 4 l + 3, 2 bits each bits     all eight quads, one bit each
// K types begin with the lanes of their integer scales, as the block packs those.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace redline::cpu {

inline constexpr int kMaxPanelRows = 32;

struct PanelFormat {
  DType dtype = DType::kF32;
  int rows = 0;               // 16 or 32
  bool k_pairs = false;       // 16-bit floats only
  bool whole_blocks = false;  // [block][R][the block's own bytes], for kernels that take blocks as they are
};

/// Of a quantised type: bytes of a row's header, and how many lanes of each kind its unit has. A subblock's
/// lanes lie together: bits, pairs, nibbles, bytes.
template <DType kType>
struct PanelUnit {
  static constexpr DTypeTraits kTraits = traits(kType);
  static constexpr bool is(auto... types) { return ((kType == types) || ...); }

  static constexpr int kSubblocks = kTraits.block_elements / 32;
  static constexpr int kBitLanes = is(DType::kQ5_0, DType::kQ5_1, DType::kQ5_K, DType::kQ3_K) ? 1 : 0;
  static constexpr int kPairLanes = is(DType::kQ2_K, DType::kQ3_K, DType::kQ6_K) ? 2 : 0;
  static constexpr int kByteLanes = is(DType::kQ8_0) ? 8 : 0;
  static constexpr int kNibbleLanes = is(DType::kQ2_K, DType::kQ3_K, DType::kQ8_0) ? 0 : 4;
  static constexpr int kSubblockLanes = kBitLanes + kPairLanes + kNibbleLanes + kByteLanes;
  static constexpr int kScaleLanes = is(DType::kQ2_K, DType::kQ6_K)                 ? 4
                                     : is(DType::kQ3_K, DType::kQ4_K, DType::kQ5_K) ? 3
                                     : is(DType::kIQ4_XS)                           ? 1
                                                                                    : 0;
  static constexpr int kBytes = kTraits.block_bytes;  // of one row
  static constexpr int kHeaderBytes = kBytes - 4 * (kScaleLanes + kSubblocks * kSubblockLanes);
  // One byte, or one or two halves.
  static_assert(kHeaderBytes == 1 || kHeaderBytes == 2 || kHeaderBytes == 4);
};

/// Bytes of a panel of k columns.
std::int64_t panel_bytes(const PanelFormat& format, std::int64_t k);
/// rows[format.rows]: each a row in the type's own format, or null for padding (zeros).
void pack_panel(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k);
/// Row `row` of a panel as f32.
void unpack_panel_row(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k, float* out);

}  // namespace redline::cpu
