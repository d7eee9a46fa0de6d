// Paged attention of few tokens on Hopper: attention_decode.cuh with its rings filled by tensor copies.
//
// As there, a warp works alone on 16 tokens of each tile. One lane copies them, boxes of 16 rows by 64
// columns for K and for V, kStages - 1 steps ahead; an mbarrier a stage tells when they have landed. No
// register and no instruction of the other lanes goes into copies, and nothing is padded. V of tokens beyond
// the last is cleared before use: their weights are 0, but 0 x NaN is not. Limit: memory bandwidth, as there.
// Reached on an H100 SXM (3.35 TB/s by its vendor, 3.06 to 3.08 attained by a plain read), 2026-11-23,
// docs/bench/h100.jsonl: 64 sequences of 1,024 tokens, 32 / 8 heads of 128: 2.68 TB/s; 256: 2.80; one of
// 32,768: 2.06; one of 1,024: 0.31 (13.6 us).
#pragma once

#include "kernels/cuda/attention_pairs.cuh"

namespace redline::cuda {

template <int D>
struct DecodeTmaShape {
  static constexpr int kStages = D <= 64 ? 6 : 3;
  static constexpr int kPanels = D / kPanelColumns;
  static constexpr int kHalfStage = kGroupTokens * D;  // elements: K, then V
  static constexpr int kWarpElements = kStages * 2 * kHalfStage;
  static constexpr std::size_t kSharedBytes =
      static_cast<std::size_t>(kSplitWarps * kWarpElements) * sizeof(dev::bf16);
  static_assert(D % kPanelColumns == 0 && D <= 128 && kGroupTokens == kBoxTokens);
};

/// A warp's ring. Groups of all its segments are numbered through: group n lies in stage n % kStages and
/// completes its mbarrier's phase n / kStages.
template <int D>
struct DecodeTmaRing {
  dev::bf16* data;
  std::uint64_t* full;  // [kStages]
  int next = 0;         // the first group of the segment

  DEV_INLINE dev::bf16* stage(int group) const {
    return data + (next + group) % DecodeTmaShape<D>::kStages * 2 * DecodeTmaShape<D>::kHalfStage;
  }
  /// Starts copying 16 tokens whose K begins at cache row `row`; one lane.
  DEV_INLINE void copy(const dev::TensorMap2D* cache, int group, int row, int block_size) const {
    using Shape = DecodeTmaShape<D>;
    std::uint64_t* mbarrier = &full[(next + group) % Shape::kStages];
    dev::mbarrier_arrive_expect_tx(mbarrier, 2 * Shape::kHalfStage * sizeof(dev::bf16));
    dev::bf16* keys = stage(group);
#pragma unroll
    for (int panel = 0; panel < Shape::kPanels; ++panel) {
      dev::bf16* target = keys + panel * kGroupTokens * kPanelColumns;
      dev::tma_load_2d(target, cache, panel * kPanelColumns, row, mbarrier);
      dev::tma_load_2d(target + Shape::kHalfStage, cache, panel * kPanelColumns, row + block_size, mbarrier);
    }
  }
  DEV_INLINE void wait(int group) const {
    constexpr int kStages = DecodeTmaShape<D>::kStages;
    dev::mbarrier_wait_parity(&full[(next + group) % kStages],
                              static_cast<unsigned>((next + group) / kStages) % 2);
  }
};

/// A warp's groups of a segment.
template <int D, int kHalves>
DEV_INLINE void attend_segment_tma(const AttentionArgs& args, const dev::TensorMap2D* cache,
                                   const SplitSegment& segment, int kv_head, DecodeTmaRing<D>& ring,
                                   DecodeState<D, kHalves>& state) {
  using Shape = DecodeTmaShape<D>;
  using Layout = SwizzledPanels<kGroupTokens>;
  const int lane = lane_index();
  const std::int32_t* table = args.batch.block_tables + segment.rows.table_start;
  const int begin = first_group(segment, warp_index()), end = segment.end_token();
  const auto group_start = [&](int i) { return begin + i * kSplitTileTokens; };
  const auto look_up = [&](int i) { return cache_row(args.kv, table, group_start(i), 0, end, kv_head); };
  const auto copy = [&](int i, int row) {
    if (lane == 0 && row >= 0) ring.copy(cache, i, row, args.kv.block_size);
  };
  int rows[Shape::kStages];
#pragma unroll
  for (int i = 0; i < Shape::kStages; ++i) rows[i] = look_up(i);
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) copy(i, rows[i]);
  int next_row = rows[Shape::kStages - 1], i = 0;
  for (; group_start(i) < end; ++i) {
    copy(i + Shape::kStages - 1, next_row);
    next_row = look_up(i + Shape::kStages);
    ring.wait(i);
    dev::bf16* keys = ring.stage(i);
    dev::bf16* values = keys + Shape::kHalfStage;
    if (const int count = end - group_start(i); count < kGroupTokens) {
      for (int chunk = lane; chunk < (kGroupTokens - count) * D / 8; chunk += kWarpSize)
        dev::st_v4(values + Layout::offset(count + chunk / (D / 8), chunk % (D / 8) * 8),
                   make_uint4(0, 0, 0, 0));
      dev::fence_proxy_async();  // a copy will write here after them
      __syncwarp();
    }
    attend_group<Layout>(state, keys, values, group_start(i), args.window, args.scale * kLog2E, lane);
    __syncwarp();  // the next copy fills this stage
  }
  ring.next += i;
}

template <int D, int kHalves>
__global__ void __launch_bounds__(kSplitThreads, kSplitBlocksPerSm)
    attention_decode_tma(const __grid_constant__ AttentionArgs args,
                         const __grid_constant__ dev::TensorMap2D cache, SplitUnits units) {
  using Shape = DecodeTmaShape<D>;
  constexpr int kPairs = kHalves * 8, kFloats = Shape::kWarpElements / 2;
  static_assert(kPairs * D <= kFloats);
  DEV_SHARED(float, scales, [kSplitWarps * kPairs * 2]);
  DEV_SHARED(std::uint64_t, full, [kSplitWarps * Shape::kStages]);
  dev::bf16* shared = dev::dynamic_smem<dev::bf16>();
  const int warp = warp_index(), lane = lane_index();
  dev::allow_next_kernel();
  DecodeTmaRing<D> ring{shared + warp * Shape::kWarpElements, full + warp * Shape::kStages};
  if (lane < Shape::kStages) {
    dev::mbarrier_init(&ring.full[lane], 1);
    dev::fence_mbarrier_init();
  }
  __syncwarp();
  for_each_segment(args.plan, args.shape.num_kv_heads * units.units_per_head,
                   [&](const SplitSegment& segment) {
                     const SplitPairs pairs = find_pairs(args, segment, units);
                     DecodeState<D, kHalves> state;
                     begin_decode<D, kHalves>(args, segment.rows, pairs, lane, state);
                     attend_segment_tma<D, kHalves>(args, &cache, segment, pairs.kv_head, ring, state);
                     // The warp's part takes the place of its ring.
                     leave_part(state, reinterpret_cast<float*>(ring.data), scales + warp * kPairs * 2, lane);
                     dev::fence_proxy_async();  // the next segment's copies write there after it
                     finish_segment<kPairs>(args, segment, pairs, reinterpret_cast<const float*>(shared),
                                            kFloats, D, scales);
                   });
}

template <int D>
inline void launch_decode_tma_padded(const AttentionArgs& args, dev::stream_t stream) {
  const SplitUnits units = split_units(args.shape, args.counts.longest_split);
  const auto run = [&](auto kernel) {
    dev::launch(kernel, dim3(static_cast<unsigned>(num_split_blocks(args.shape))), dim3(kSplitThreads),
                DecodeTmaShape<D>::kSharedBytes, stream, args, map_cache(args.kv), units);
  };
  units.num_pairs == 8 ? run(attention_decode_tma<D, 1>) : run(attention_decode_tma<D, 2>);
}

/// Attends every listed row of args.plan. Requires Hopper, head_dim of at most 128 and a block size that is a
/// multiple of 16.
inline void launch_attention_decode_tma(const AttentionArgs& args, dev::stream_t stream) {
  if (args.shape.head_dim <= 64)
    launch_decode_tma_padded<64>(args, stream);
  else
    launch_decode_tma_padded<128>(args, stream);
}

}  // namespace redline::cuda
