// What the split-KV kernels share: a block's walk over its run of tiles, and the meeting of blocks that hold
// parts of one unit.
//
// Each part of softmax(s) v over some of the tokens is kept as (m, l, o): the maximum of s in units of log 2,
// l = sum 2^(s - m), o = sum 2^(s - m) v. Parts a and b join as m = max, l = l_a 2^(m_a - m) + l_b 2^(m_b -
// m), o alike (Milakov and Gimelshein, Online normalizer calculation for softmax).
//
// A block's run begins in at most one unit that an earlier block opened (its part goes to slot 2 block) and
// ends in at most one unit that it opens and a later block continues (slot 2 block + 1); so the memory
// depends on the grid alone. The block that takes the last ticket of a unit joins the parts in the order of
// tokens: whichever is last, the result is the same.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kSplitThreads = 128;
inline constexpr int kSplitWarps = kSplitThreads / 32;

DEV_INLINE int ceil_div(int a, int b) { return (a + b - 1) / b; }

/// Tiles of a unit of such rows.
DEV_INLINE int split_tiles(const SplitRows& rows) {
  return ceil_div(rows.length, kSplitTileTokens) - rows.begin / kSplitTileTokens;
}

/// One block's part of one unit: tiles [first, end) of the unit's `num_tiles`.
struct SplitSegment {
  SplitRows rows;
  int unit = 0;
  int first = 0;
  int end = 0;
  int num_tiles = 0;
  int unit_start = 0;  // the unit's first tile among all tiles

  /// The first token of tile `first`, which may lie before rows.begin, and the end of the segment's tokens.
  DEV_INLINE int first_token() const { return (rows.begin / kSplitTileTokens + first) * kSplitTileTokens; }
  DEV_INLINE int end_token() const {
    return min((rows.begin / kSplitTileTokens + end) * kSplitTileTokens, rows.length);
  }
};

/// Calls body(segment) for each unit that this block's run touches. `units`: of all KV heads.
template <class Body>
DEV_INLINE void for_each_segment(const AttentionPlan& plan, int units, Body body) {
  const SplitStart start = plan.starts[blockIdx.x];
  int index = start.index, left = start.num_tiles;
  SplitSegment segment{start.rows, start.unit, start.tile, 0, 0, 0};
  while (left > 0) {
    segment.num_tiles = split_tiles(segment.rows);
    segment.end = min(segment.num_tiles, segment.first + left);
    segment.unit_start = segment.rows.first_tile * units + segment.unit * segment.num_tiles;
    body(segment);
    left -= segment.end - segment.first;
    segment.first = 0;
    if (++segment.unit == units) {
      segment.unit = 0;
      if (left > 0) segment.rows = plan.rows[++index];
    }
  }
}

/// The (token, head) pairs of a segment: pair p is token p / num_heads of its rows and head first_head +
/// p % num_heads.
struct SplitPairs {
  int kv_head = 0;
  int first_head = 0;
  int num_heads = 0;
  int num_pairs = 0;
};
DEV_INLINE SplitPairs find_pairs(const AttentionArgs& args, const SplitSegment& segment,
                                 const SplitUnits& units) {
  const int group = args.shape.num_q_heads / args.shape.num_kv_heads;
  const int first = segment.unit % units.units_per_head * units.num_pairs;
  SplitPairs pairs;
  pairs.kv_head = segment.unit / units.units_per_head;
  pairs.first_head = pairs.kv_head * group + first;
  pairs.num_heads = min(units.num_pairs, group - first);
  pairs.num_pairs = segment.rows.num_tokens * pairs.num_heads;
  return pairs;
}

/// 2^(from - to), and 0 for a part without tokens (from = -inf).
DEV_INLINE float rescale(float from, float to) { return from == -INFINITY ? 0.f : dev::ex2(from - to); }

DEV_INLINE void store_activation(const AttentionArgs& args, std::int64_t index, float value) {
  if (args.shape.activation_type == DType::kBF16)
    reinterpret_cast<dev::bf16*>(args.out)[index] = __float2bfloat16(value);
  else
    reinterpret_cast<float*>(args.out)[index] = value;
}

/// Joins the parts of a block's warps, in shared memory (sums [warp][pair][stride], warps `warp_stride`
/// floats apart; scales [warp][kPairs][2] = m, l), and writes the result: to args.out if the segment is all
/// of its unit or this block takes the unit's last ticket, else to its slot. Every thread of the block calls
/// it, after writing its warp's part; on return, shared memory may be written again.
template <int kPairs>
DEV_INLINE void finish_segment(const AttentionArgs& args, const SplitSegment& segment,
                               const SplitPairs& pairs, const float* sums, int warp_stride, int stride,
                               const float* scales) {
  const int head_dim = args.shape.head_dim, block = static_cast<int>(blockIdx.x);
  const bool whole = segment.end - segment.first == segment.num_tiles;
  const int slot = 2 * block + (segment.first == 0 ? 1 : 0);
  const auto store = [&](int pair, int column, float value) {
    const std::int64_t row = segment.rows.row + pair / pairs.num_heads;
    const int head = pairs.first_head + pair % pairs.num_heads;
    store_activation(args, row * args.out_stride + head * head_dim + column, value);
  };
  __syncthreads();
  for (int i = thread_index(); i < pairs.num_pairs * head_dim; i += kSplitThreads) {
    const int pair = i / head_dim, column = i % head_dim;
    float maximum = -INFINITY, weight = 0, sum = 0;
    for (int w = 0; w < kSplitWarps; ++w) maximum = fmaxf(maximum, scales[(w * kPairs + pair) * 2]);
    for (int w = 0; w < kSplitWarps; ++w) {
      const float* part = scales + (w * kPairs + pair) * 2;
      const float factor = rescale(part[0], maximum);
      weight += part[1] * factor;
      sum += sums[w * warp_stride + pair * stride + column] * factor;
    }
    if (whole) {
      store(pair, column, sum / weight);
    } else {
      args.plan.partial_sums[(slot * kPairs + pair) * head_dim + column] = sum;
      if (column == 0) {
        args.plan.partial_scales[(slot * kPairs + pair) * 2] = maximum;
        args.plan.partial_scales[(slot * kPairs + pair) * 2 + 1] = weight;
      }
    }
  }
  if (whole) {
    __syncthreads();
    return;
  }

  const int per_block = *args.plan.tiles_per_block;
  const int first_block = segment.unit_start / per_block;
  const int last_block = (segment.unit_start + segment.num_tiles - 1) / per_block;
  DEV_SHARED(int, is_last, );
  __threadfence();  // this block's part, before its ticket
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(&args.plan.tickets[first_block], 1) == last_block - first_block;
    if (is_last) args.plan.tickets[first_block] = 0;  // for the next layer
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();  // the others' parts, after their tickets
  const auto part_slot = [&](int b) { return 2 * b + (b == first_block ? 1 : 0); };
  for (int i = thread_index(); i < pairs.num_pairs * head_dim; i += kSplitThreads) {
    const int pair = i / head_dim, column = i % head_dim;
    float maximum = -INFINITY, weight = 0, sum = 0;
#pragma unroll 4
    for (int b = first_block; b <= last_block; ++b) {
      const int part = part_slot(b) * kPairs + pair;
      const float part_maximum = args.plan.partial_scales[part * 2];
      const float joined = fmaxf(maximum, part_maximum);
      const float old_factor = rescale(maximum, joined), factor = rescale(part_maximum, joined);
      weight = weight * old_factor + args.plan.partial_scales[part * 2 + 1] * factor;
      sum = sum * old_factor + args.plan.partial_sums[part * head_dim + column] * factor;
      maximum = joined;
    }
    store(pair, column, sum / weight);
  }
}

}  // namespace redline::cuda
