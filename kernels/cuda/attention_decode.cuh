// Paged attention of few tokens on tensor cores: the query heads that share a KV head, and neighbouring
// tokens, are the rows of one tile (attention_pairs.cuh), so K and V are read once for the group; each row is
// split along its cache (attention_split.cuh). bf16 in, fp32 accumulation, online softmax.
//
// One block: a run of 64-token tiles of (rows, unit). One warp: 16 tokens of each tile, with a ring of its
// own in shared memory, filled by its own cp.async kStages - 1 steps ahead: warps meet only at the end of a
// segment. At the default block size a warp's 16 tokens are one cache block, 2 x 16 contiguous rows. Table
// entries are read one step before their copies are issued.
// Limit: memory bandwidth; (kStages - 1) x 4 x 2 x 16 rows in flight a block (32 KB at d = 128, two blocks
// an SM) against the 30 KB that latency asks for. Not yet measured.
#pragma once

#include "kernels/cuda/attention_pairs.cuh"

namespace redline::cuda {

template <int D>
struct DecodeShape {
  // As many as let two blocks share an A100's 164 KB (d = 256: one), and one run where a block has 99 KB.
  static constexpr int kStages = D <= 64 ? 4 : D <= 96 ? 3 : 2;
  static constexpr int kChunks = D / 8;                                     // of 16 bytes, a row
  static constexpr int kHalfStage = kGroupTokens * PaddedRows<D>::kStride;  // elements: K, then V
  static constexpr int kWarpElements = kStages * 2 * kHalfStage;
  static constexpr std::size_t kSharedBytes =
      static_cast<std::size_t>(kSplitWarps * kWarpElements) * sizeof(dev::bf16);
};

/// Starts copying 16 tokens' K and V to `stage`. Lane i < 16 holds the cache row of token i, -1 for none.
template <int D>
DEV_INLINE void copy_group(const AttentionArgs& args, int lane_row, dev::bf16* stage, int lane) {
  using Shape = DecodeShape<D>;
  const dev::bf16* cache = reinterpret_cast<const dev::bf16*>(args.kv.data);
  const int head_dim = args.shape.head_dim;
#pragma unroll 2
  for (int i = 0; i < kGroupTokens * Shape::kChunks / 32; ++i) {
    const int index = lane + i * 32, token = index / Shape::kChunks, column = index % Shape::kChunks * 8;
    const int row = __shfl_sync(kAllLanes, lane_row, token);
    const bool exists = row >= 0 && column < head_dim;
    const dev::bf16* source =
        cache + (exists ? static_cast<std::int64_t>(row) * head_dim + column : std::int64_t{0});
    dev::bf16* target = stage + token * PaddedRows<D>::kStride + column;
    dev::cp_async_16_zfill(target, source, exists);
    dev::cp_async_16_zfill(target + Shape::kHalfStage, source + (exists ? args.kv.block_size * head_dim : 0),
                           exists);
  }
}

/// A warp's groups of a segment, through its ring.
template <int D, int kHalves>
DEV_INLINE void attend_segment(const AttentionArgs& args, const SplitSegment& segment, int kv_head,
                               dev::bf16* ring, DecodeState<D, kHalves>& state) {
  using Shape = DecodeShape<D>;
  const int warp = warp_index(), lane = lane_index();
  const std::int32_t* table = args.batch.block_tables + segment.rows.table_start;
  const int begin = first_group(segment, warp), end = segment.end_token();
  const auto group_start = [&](int i) { return begin + i * kSplitTileTokens; };
  const auto look_up = [&](int i) {
    return lane < kGroupTokens
               ? cache_row(args.kv, table, group_start(i) + lane, segment.rows.begin, end, kv_head)
               : -1;
  };
  const auto copy = [&](int i, int lane_row) {
    if (group_start(i) < end)
      copy_group<D>(args, lane_row, ring + i % Shape::kStages * 2 * Shape::kHalfStage, lane);
    dev::cp_async_commit();
  };
  int lane_rows[Shape::kStages];
#pragma unroll
  for (int i = 0; i < Shape::kStages; ++i) lane_rows[i] = look_up(i);
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) copy(i, lane_rows[i]);
  int next_row = lane_rows[Shape::kStages - 1];
  for (int i = 0; group_start(i) < end; ++i) {
    copy(i + Shape::kStages - 1, next_row);
    next_row = look_up(i + Shape::kStages);
    dev::cp_async_wait<Shape::kStages - 1>();
    __syncwarp();  // all lanes' copies of group i have landed
    const dev::bf16* stage = ring + i % Shape::kStages * 2 * Shape::kHalfStage;
    attend_group<PaddedRows<D>>(state, stage, stage + Shape::kHalfStage, group_start(i), args.window,
                                args.scale * kLog2E, lane);
    __syncwarp();  // the next copy fills this stage
  }
  dev::cp_async_wait<0>();
  __syncwarp();
}

template <int D, int kHalves>
__global__ void __launch_bounds__(kSplitThreads, kSplitBlocksPerSm)
    attention_decode(const __grid_constant__ AttentionArgs args, SplitUnits units) {
  using Shape = DecodeShape<D>;
  constexpr int kPairs = kHalves * 8, kFloats = Shape::kWarpElements / 2;
  static_assert(kPairs * D <= kFloats);
  DEV_SHARED(float, scales, [kSplitWarps * kPairs * 2]);
  dev::bf16* shared = dev::dynamic_smem<dev::bf16>();
  const int warp = warp_index(), lane = lane_index();
  dev::bf16* ring = shared + warp * Shape::kWarpElements;
  for_each_segment(args.plan, args.shape.num_kv_heads * units.units_per_head,
                   [&](const SplitSegment& segment) {
                     const SplitPairs pairs = find_pairs(args, segment, units);
                     DecodeState<D, kHalves> state;
                     begin_decode<D, kHalves>(args, segment.rows, pairs, lane, state);
                     attend_segment<D, kHalves>(args, segment, pairs.kv_head, ring, state);
                     // The warp's part takes the place of its ring.
                     leave_part(state, reinterpret_cast<float*>(ring), scales + warp * kPairs * 2, lane);
                     finish_segment<kPairs>(args, segment, pairs, reinterpret_cast<const float*>(shared),
                                            kFloats, D, scales);
                   });
}

template <int D>
inline void launch_decode_padded(const AttentionArgs& args, dev::stream_t stream) {
  const SplitUnits units = split_units(args.shape, args.counts.longest_split);
  const auto run = [&](auto kernel) {
    dev::launch(kernel, dim3(static_cast<unsigned>(num_split_blocks(args.shape))), dim3(kSplitThreads),
                DecodeShape<D>::kSharedBytes, stream, args, units);
  };
  if constexpr (D <= 128)
    if (units.num_pairs == 8) return run(attention_decode<D, 1>);
  run(attention_decode<D, 2>);
}

/// Attends every listed row of args.plan.
inline void launch_attention_decode(const AttentionArgs& args, dev::stream_t stream) {
  const int head_dim = args.shape.head_dim;
  if (head_dim <= 64)
    launch_decode_padded<64>(args, stream);
  else if (head_dim <= 96)
    launch_decode_padded<96>(args, stream);
  else if (head_dim <= 128)
    launch_decode_padded<128>(args, stream);
  else
    launch_decode_padded<256>(args, stream);
}

}  // namespace redline::cuda
