// What the driver of paged attention and the kernels of each instruction set
// say to each other: plain data, since the kernels' translation units have -m
// flags of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace redline::cpu {

/// Keys are taken in segments of 256 aligned to absolute position: one softmax
/// a segment, segments merged in order. A row's sums so depend on its own
/// position alone.
inline constexpr int kSegmentTokens = 256;
/// A tile's rows of scratch fit the second-level cache.
inline constexpr int kMaxTileRows = 48;
inline constexpr int kMaxHeadDim = 256;
/// Floats between rows of scratch: room for a head or a segment's scores, and
/// an odd number of cache lines.
inline constexpr int kScratchStride = 272;

/// One KV head of one sequence in one layer of the cache (layout: KvLayerView).
struct KvHead {
  const std::byte* data = nullptr;  // the head's K tile in block 0
  std::int64_t block_bytes = 0;
  std::int64_t tile_bytes = 0;  // from a K tile to its V tile
  const std::int32_t* table = nullptr;
  int block_size = 0;
  int head_dim = 0;
  DType dtype = DType::kBF16;
};

/// Query rows that share a KV head: num_tokens x num_heads <= kMaxTileRows,
/// heads of a token adjacent. Token t is at `first_position + t` and sees the
/// keys up to itself, the last `window` of them unless that is 0.
struct AttentionTile {
  KvHead kv;
  const float* q = nullptr;
  float* out = nullptr;
  std::int64_t q_stride = 0;    // elements from token to token
  std::int64_t out_stride = 0;  // likewise
  int num_tokens = 0;
  int num_heads = 0;
  int first_position = 0;
  int window = 0;
  float scale = 0;
};

/// A state holds a softmax over some keys for each row of a tile, unnormalised:
/// kScratchStride floats a row, of which [0, head_dim) are the sum of weighted
/// values, kStateSum the sum of weights and kStateMax the largest score, in
/// powers of two.
inline constexpr int kStateSum = kMaxHeadDim, kStateMax = kMaxHeadDim + 1;
inline constexpr int kStateFloats = kMaxTileRows * kScratchStride;

/// Floats of K or V that are widened to f32 at a time: half of a first-level
/// cache.
inline constexpr int kWideFloats = kSegmentTokens * 16;

/// Floats of scratch that attend_segments needs.
inline constexpr int kAttentionScratch = 3 * kStateFloats + kWideFloats;

struct AttentionKernels {
  /// state = the softmax of every row of `tile` over its keys in segments
  /// [first, last). Rows without keys there get zero weight.
  void (*attend_segments)(const AttentionTile& tile, int first, int last, float* scratch, float* state);
  /// Merges `count` states in order (into the first; they follow each other)
  /// and writes the normalised rows to the tile's out.
  void (*finish)(const AttentionTile& tile, float* states, int count);
};

extern const AttentionKernels kAttentionPortable, kAttentionAvx2, kAttentionAvx512, kAttentionAvx512Amx;

}  // namespace redline::cpu
