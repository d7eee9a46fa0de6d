// What kernels on the device are given: a step's geometry, the paged cache and weights, as plain pointers
// into device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/batch.h"
#include "kernels/dtype.h"

namespace redline::cuda {

/// BatchView (kernels/batch.h) in device memory.
struct DeviceBatch {
  const SequenceWork* sequences = nullptr;     // [S]
  const std::int32_t* token_ids = nullptr;     // [T]
  const std::int32_t* positions = nullptr;     // [T]
  const std::int64_t* slots = nullptr;         // [T]
  const std::int32_t* row_sequence = nullptr;  // [T] which sequence a token row belongs to
  const std::int32_t* block_tables = nullptr;
  const std::int32_t* logit_rows = nullptr;  // [R]
  int num_sequences = 0;
  int num_tokens = 0;
  int num_logit_rows = 0;
};

/// One layer of the paged cache: block, then KV head, then K [block_size, head_dim] and V [block_size,
/// head_dim], row-major, bf16 or f32. A token's slot is block * block_size + offset.
struct KvView {
  std::byte* data = nullptr;
  int num_blocks = 0;
  int block_size = 16;
  int num_kv_heads = 0;
  int head_dim = 0;
};

/// A weight matrix [rows N, cols K], row-major. Unquantised types: `quants` holds the elements, `scales` is
/// null. Q8_0: int8 [N, K] and f16 scales [N, K / 32]. Q4_0 and Q4_1: 16 bytes for each 32 columns, byte i
/// holding column i (low nibble) and i + 16 (high), and f16 d [N, K / 32] or half2 (d, m) [N, K / 32]; a
/// value is (q - 8) d or q d + m. Q4_K: the same nibbles, and for each 256 columns 16 bytes: half2 (d, m); a
/// byte for each 32 columns, s | (t & 3) << 6; a nibble for each, t >> 2; a value is (d s) q - (m t). Q6_K:
/// the nibbles, and in `high` 8 bytes for each lane t of 4 and 128 columns, 2 for each 32: byte e holds the
/// high two bits of columns 4 t + e, 4 t + 2 + e, and 16 further on, at bits 0, 2, 4 and 6; `scales` is int8
/// s [N, K / 16], `supers` f16 d [N, K / 256]; a value is (d s) (q - 32). Arrays are aligned to 256 bytes;
/// weight_layout.h makes them.
struct WeightArrays {
  DType dtype = DType::kBF16;
  const std::byte* quants = nullptr;
  const std::byte* scales = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const std::byte* high = nullptr;    // Q6_K alone
  const std::byte* supers = nullptr;  // Q6_K alone
};

}  // namespace redline::cuda
