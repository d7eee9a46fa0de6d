// What the mma.sync kernels of attention share: rows of bf16 in shared memory, fragments, masks.
//
// m16n8k16 (PTX ISA): lane = 4 g + t. A: a0 (row g, k 2t..), a1 (g + 8), a2 (g, k + 8), a3 (g + 8, k + 8);
// B: b0 (k 2t.., column g), b1 (k + 8); C: c0, c1 (row g, columns 2t, 2t + 1), c2, c3 (row g + 8). So the C
// fragments of two neighbouring score tiles are, packed to bf16, the A fragment of the product with V.
//
// Rows of D elements lie in shared memory in one of two layouts, of which ldmatrix reads eight rows without
// conflicts: padded to an odd number of 16-byte chunks, or as tensor copies write them.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

/// Rows one after another, D + 8 elements apart.
template <int D>
struct PaddedRows {
  static constexpr int kStride = D + 8;
  DEV_INLINE static int offset(int row, int column) { return row * kStride + column; }
};

inline constexpr int kPanelColumns = 64;  // 128 bytes, the span of the swizzle
inline constexpr int kBoxTokens = 16;     // rows of a tensor copy: block sizes are multiples of it

/// Panels of kRows rows and 64 columns; within a panel, chunk c of row r lies at c ^ (r % 8).
template <int kRows>
struct SwizzledPanels {
  static constexpr int kPanel = kRows * kPanelColumns;
  DEV_INLINE static int offset(int row, int column) {
    return column / kPanelColumns * kPanel + row * kPanelColumns + (column / 8 % 8 ^ row % 8) * 8;
  }
};

/// The cache as tensor copies see it: rows of head_dim, boxes of 16 rows and 64 columns.
inline dev::TensorMap2D map_cache(const KvView& kv) {
  REDLINE_CHECK(kv.block_size % kBoxTokens == 0, "a tensor copy stays within a block");
  const auto rows = static_cast<std::uint64_t>(kv.num_blocks) *
                    static_cast<std::uint64_t>(kv.num_kv_heads * 2 * kv.block_size);
  const auto head_dim = static_cast<std::uint64_t>(kv.head_dim);
  return dev::make_tensor_map_2d(kv.data, head_dim, rows, head_dim * sizeof(dev::bf16), kPanelColumns,
                                 kBoxTokens, sizeof(dev::bf16), dev::Swizzle::B128);
}

/// Row of the cache, counted in rows of head_dim, that holds K of `token`; V's is block_size further. -1
/// for tokens outside [begin, end).
DEV_INLINE int cache_row(const KvView& kv, const std::int32_t* table, int token, int begin, int end,
                         int kv_head) {
  if (token < begin || token >= end) return -1;
  const int block = token / kv.block_size;
  return (table[block] * kv.num_kv_heads + kv_head) * 2 * kv.block_size + token - block * kv.block_size;
}

/// B fragments of Q K^T for 16 keys: [0], [1] the first eight's, [2], [3] the others'; `step`: which 16
/// columns of D.
template <class Layout>
DEV_INLINE void load_key_fragment(std::uint32_t (&fragment)[4], const dev::bf16* keys, int first_key,
                                  int step, int lane) {
  dev::ldmatrix_x4(fragment,
                   keys + Layout::offset(first_key + lane % 8 + lane / 16 * 8, step * 16 + lane / 8 % 2 * 8));
}
/// B fragments of P V for 16 keys and 16 columns: [0], [1] the first eight columns'.
template <class Layout>
DEV_INLINE void load_value_fragment(std::uint32_t (&fragment)[4], const dev::bf16* values, int first_key,
                                    int first_column, int lane) {
  dev::ldmatrix_x4_trans(fragment,
                         values + Layout::offset(first_key + lane % 16, first_column + lane / 16 * 8));
}
/// The A fragment of 16 rows.
template <class Layout>
DEV_INLINE void load_query_fragment(std::uint32_t (&fragment)[4], const dev::bf16* queries, int first_row,
                                    int step, int lane) {
  dev::ldmatrix_x4(fragment, queries + Layout::offset(first_row + lane % 16, step * 16 + lane / 16 * 8));
}

// A row tile's accumulators: [columns / 8][4], rows g and g + 8 of the lane's warp.

/// Masks what lies after the diagonal or before the window: keys first_key ... against the row tile at
/// `first_position`.
template <int kScores>
DEV_INLINE void mask_scores(float (&scores)[kScores][4], int first_key, int first_position, int window,
                            int lane) {
#pragma unroll
  for (int j = 0; j < kScores; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = first_key + j * 8 + lane % 4 * 2 + e % 2;
      const int position = first_position + lane / 4 + e / 2 * 8;
      // Of a later key the distance wraps around, and exceeds any window.
      if (static_cast<unsigned>(position - key) >= static_cast<unsigned>(window)) scores[j][e] = -INFINITY;
    }
}
/// Whether some of `num_keys` keys from first_key on are masked for some of the 16 rows.
DEV_INLINE bool needs_mask(int first_key, int num_keys, int first_position, int window) {
  return first_key + num_keys - 1 > first_position || first_key + window < first_position + 16;
}

/// Online softmax: scores become weights 2^(scale (s - maximum)). `factor`: what the output so far is to be
/// scaled by. `sum` is this lane's share. A row may see none of the keys so far: its window begins later.
template <int kScores>
DEV_INLINE void weigh_scores(float (&scores)[kScores][4], float (&row_maximum)[2], float (&row_sum)[2],
                             float (&factor)[2], float scale) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float maximum = row_maximum[r];
#pragma unroll
    for (int j = 0; j < kScores; ++j) maximum = fmaxf(maximum, fmaxf(scores[j][2 * r], scores[j][2 * r + 1]));
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 2));
    const float offset = maximum == -INFINITY ? 0 : maximum * scale;
    factor[r] = dev::ex2(row_maximum[r] * scale - offset);
    row_maximum[r] = maximum;
    float sum = row_sum[r] * factor[r];
#pragma unroll
    for (int j = 0; j < kScores; ++j)
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        scores[j][e] = dev::ex2(scores[j][e] * scale - offset);
        sum += scores[j][e];
      }
    row_sum[r] = sum;
  }
}

template <int kColumns>
DEV_INLINE void scale_rows(float (&out)[kColumns][4], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) out[i][e] *= factor[e / 2];
}

/// The A fragment of weights for keys 16 j ... .
template <int kScores>
DEV_INLINE void pack_weights(std::uint32_t (&fragment)[4], const float (&weights)[kScores][4], int j) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    fragment[i] = pack_bf16x2(weights[2 * j + i / 2][i % 2 * 2], weights[2 * j + i / 2][i % 2 * 2 + 1]);
}

/// What a prefill block works on.
struct PrefillWork {
  SequenceWork sequence;
  int first_row = 0;  // within the sequence
  int head = 0;
  int kv_head = 0;
  int begin = 0;   // the first key that the tile's first row sees
  int length = 0;  // keys up to the last that the tile's last row sees
};
DEV_INLINE PrefillWork find_prefill_work(const AttentionArgs& args, int tile_rows) {
  const PrefillTile tile = args.plan.tiles[blockIdx.y];
  PrefillWork work;
  work.sequence = args.batch.sequences[tile.sequence];
  work.first_row = tile.first_row;
  work.head = static_cast<int>(blockIdx.x);
  work.kv_head = work.head / (args.shape.num_q_heads / args.shape.num_kv_heads);
  work.begin = max(0, work.sequence.num_cached + work.first_row + 1 - args.window);
  work.length = work.sequence.num_cached + min(work.sequence.num_new, work.first_row + tile_rows);
  return work;
}

/// Divides a row tile's output by its sums and writes the rows and columns that exist. `first_row`: within
/// the sequence.
template <int kColumns>
DEV_INLINE void write_row_tile(const AttentionArgs& args, const PrefillWork& work,
                               const float (&out)[kColumns][4], const float (&row_sum)[2], int first_row,
                               int lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = row_sum[r];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const int row = first_row + lane / 4 + r * 8;
    if (row >= work.sequence.num_new) continue;
    dev::bf16* target = reinterpret_cast<dev::bf16*>(args.out) +
                        (work.sequence.query_start + row) * args.out_stride +
                        work.head * args.shape.head_dim + lane % 4 * 2;
    const float inverse = 1.f / sum;
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
      if (i * 8 < args.shape.head_dim)
        *reinterpret_cast<std::uint32_t*>(target + i * 8) =
            pack_bf16x2(out[i][2 * r] * inverse, out[i][2 * r + 1] * inverse);
  }
}

}  // namespace redline::cuda
