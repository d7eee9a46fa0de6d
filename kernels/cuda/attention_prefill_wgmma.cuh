// Paged causal attention of many query rows on Hopper: FlashAttention-3's form (Shah et al. 2024) with wgmma
// and tensor copies, bf16 in, fp32 accumulation, over a cached prefix and the step's own tokens alike.
//
// One block: one query head, 128 rows of one sequence, 384 threads. Warpgroups 0 and 1 own 64 rows each:
// scores, weights and output stay in their registers. One warp of the third streams tiles of kKeys keys: lane
// i copies the i-th 16 tokens, a box of 16 rows by 64 columns (128 bytes, swizzled) at a time, into two
// stages of K and of V, each with its own pair of mbarriers. A tile thus lies in panels of 64 columns, 128
// bytes a key: K-major for Q K^T, row-contiguous for P V. Columns beyond head_dim are zeroed by the copy; V
// of keys beyond the last, and of boxes before the window, is cleared by the producer before it hands the
// tile over (their weights are 0, but 0 x NaN is not). A warpgroup starts S = Q K^T of tile i, then O += P V
// of tile i - 1, and works out tile i's weights while the latter runs. Limit: the tensor cores' rate, 4 d
// FLOPs a causal pair. Reached on an H100 SXM (785 to 796 TFLOP/s in a bf16 product of 8192^3), 2026-11-23,
// docs/bench/h100.jsonl, before windows: 32 heads of 128, 2,048 tokens 375 TFLOP/s, 8,192 494, 32,768 515.
// Where the warpgroups take turns at the tensor cores (kTurns) 372, 446 and 499: so they do not.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace redline::cuda {

template <int D>
struct WgmmaPrefillShape {
  static constexpr int kThreads = 384;
  static constexpr int kRows = 128;
  static constexpr int kKeys = D <= 128 ? 128 : 64;
  static constexpr int kStages = 2;
  static constexpr int kPanels = D / kPanelColumns;
  static constexpr int kQueryPanel = kRows * kPanelColumns;  // elements
  static constexpr int kKeyPanel = kKeys * kPanelColumns;
  static constexpr int kStage = kPanels * kKeyPanel;
  static constexpr std::size_t kSharedBytes =
      static_cast<std::size_t>(kPanels * kQueryPanel + 2 * kStages * kStage) * sizeof(dev::bf16);
  static_assert(D % kPanelColumns == 0 && kKeys >= 64);
};

/// "full" completes when a stage holds its tile; "empty" when both warpgroups' warps have left it.
struct WgmmaMbarriers {
  std::uint64_t key_full[2], key_empty[2], value_full[2], value_empty[2], last_values;
};

/// The block's view of its shared memory and its work.
template <int D>
struct WgmmaPrefillBlock {
  dev::bf16* queries;
  dev::bf16* keys;
  dev::bf16* values;
  WgmmaMbarriers* mbarriers;
  PrefillWork work;
  int first_key;  // of the first tile
  int num_tiles;
};

/// Copies the block's query rows into panels, as a tensor copy would: chunk c of row r at c ^ (r % 8). Rows
/// and columns that do not exist become zeros.
template <int D>
DEV_INLINE void copy_query_panels(const AttentionArgs& args, const PrefillWork& work, dev::bf16* panels) {
  using Shape = WgmmaPrefillShape<D>;
  constexpr int kChunks = D / 8;
  const dev::bf16* q = reinterpret_cast<const dev::bf16*>(args.q);
  for (int i = thread_index(); i < Shape::kRows * kChunks; i += Shape::kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8, index = work.first_row + row;
    uint4 chunk = make_uint4(0, 0, 0, 0);
    if (index < work.sequence.num_new && column < args.shape.head_dim)
      chunk = dev::ld_v4(q + (work.sequence.query_start + index) * args.q_stride +
                         work.head * args.shape.head_dim + column);
    dev::st_v4(panels + SwizzledPanels<Shape::kRows>::offset(row, column), chunk);
  }
  dev::fence_proxy_async();
}

/// Starts copying one tile of K or V, whose box this lane's is begins at cache row `row` (-1: none).
template <int D>
DEV_INLINE void copy_panels(const dev::TensorMap2D* cache, int row, dev::bf16* stage, std::uint64_t* mbarrier,
                            int lane) {
  using Shape = WgmmaPrefillShape<D>;
  const int num_boxes = __popc(__ballot_sync(kAllLanes, row >= 0));
  if (lane == 0)
    dev::mbarrier_arrive_expect_tx(mbarrier, static_cast<unsigned>(num_boxes * kBoxTokens * D) *
                                                 static_cast<unsigned>(sizeof(dev::bf16)));
  __syncwarp();
  if (row < 0) return;
#pragma unroll
  for (int panel = 0; panel < Shape::kPanels; ++panel)
    dev::tma_load_2d(stage + panel * Shape::kKeyPanel + lane * kBoxTokens * kPanelColumns, cache,
                     panel * kPanelColumns, row, mbarrier);
}

/// Clears rows [first, end) of a stage.
template <int D>
DEV_INLINE void clear_rows(dev::bf16* stage, int first, int end, int lane) {
  using Shape = WgmmaPrefillShape<D>;
  const int count = (end - first) * kPanelColumns / 8;
#pragma unroll 1  // the producer has few registers
  for (int panel = 0; panel < Shape::kPanels; ++panel)
#pragma unroll 1
    for (int i = lane; i < count; i += kWarpSize)
      dev::st_v4(stage + panel * Shape::kKeyPanel + first * kPanelColumns + i * 8, make_uint4(0, 0, 0, 0));
  dev::fence_proxy_async();
  __syncwarp();
}

/// The producer warp.
template <int D>
DEV_INLINE void stream_tiles(const AttentionArgs& args, const dev::TensorMap2D* cache,
                             const WgmmaPrefillBlock<D>& block) {
  using Shape = WgmmaPrefillShape<D>;
  const int lane = lane_index(), length = block.work.length;
  const std::int32_t* table = args.batch.block_tables + block.work.sequence.table_start;
  WgmmaMbarriers& mbarriers = *block.mbarriers;
  for (int i = 0; i < block.num_tiles; ++i) {
    const int stage = i % Shape::kStages, first_key = block.first_key + i * Shape::kKeys;
    const unsigned parity = static_cast<unsigned>(i / Shape::kStages) % 2 ^ 1;
    // Boxes before the window are not copied: their blocks may be anyone's.
    const int first_row = max(0, block.work.begin - first_key) / kBoxTokens * kBoxTokens;
    const int row = lane < Shape::kKeys / kBoxTokens
                        ? cache_row(args.kv, table, first_key + lane * kBoxTokens, first_key + first_row,
                                    length, block.work.kv_head)
                        : -1;
    const int value_row = row < 0 ? -1 : row + args.kv.block_size, num_keys = length - first_key;
    dev::bf16* keys = block.keys + stage * Shape::kStage;
    dev::bf16* values = block.values + stage * Shape::kStage;
    dev::mbarrier_wait_parity(&mbarriers.key_empty[stage], parity);
    if (first_row > 0) clear_rows<D>(keys, 0, first_row, lane);
    if (num_keys < Shape::kKeys)
      clear_rows<D>(keys, (num_keys + kBoxTokens - 1) / kBoxTokens * kBoxTokens, Shape::kKeys, lane);
    copy_panels<D>(cache, row, keys, &mbarriers.key_full[stage], lane);
    dev::mbarrier_wait_parity(&mbarriers.value_empty[stage], parity);
    if (first_row > 0) clear_rows<D>(values, 0, first_row, lane);
    if (num_keys >= Shape::kKeys) {
      copy_panels<D>(cache, value_row, values, &mbarriers.value_full[stage], lane);
    } else {  // the last tile
      copy_panels<D>(cache, value_row, values, &mbarriers.last_values, lane);
      dev::mbarrier_wait_parity(&mbarriers.last_values, 0);
      clear_rows<D>(values, num_keys, Shape::kKeys, lane);
      if (lane == 0) dev::mbarrier_arrive(&mbarriers.value_full[stage]);
    }
  }
}

/// Starts scores = Q K^T for the warpgroup's rows.
template <int D>
DEV_INLINE void start_scores(float (&scores)[WgmmaPrefillShape<D>::kKeys / 8][4], const dev::bf16* queries,
                             const dev::bf16* keys) {
  using Shape = WgmmaPrefillShape<D>;
  dev::wgmma_fence();
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    const int panel = step / 4, bytes = step % 4 * 32;
    const std::uint64_t a =
        dev::wgmma_desc(queries + panel * Shape::kQueryPanel, 16, 1024, dev::Swizzle::B128);
    const std::uint64_t b = dev::wgmma_desc(keys + panel * Shape::kKeyPanel, 16, 1024, dev::Swizzle::B128);
    dev::wgmma_ss(scores, dev::wgmma_desc_advance(a, static_cast<unsigned>(bytes)),
                  dev::wgmma_desc_advance(b, static_cast<unsigned>(bytes)), step > 0);
  }
  dev::wgmma_commit();
}

/// Starts out += P V.
template <int D>
DEV_INLINE void start_values(float (&out)[D / 8][4],
                             const std::uint32_t (&weights)[WgmmaPrefillShape<D>::kKeys / 16][4],
                             const dev::bf16* values) {
  using Shape = WgmmaPrefillShape<D>;
  const std::uint64_t b =
      dev::wgmma_desc(values, Shape::kKeyPanel * sizeof(dev::bf16), 1024, dev::Swizzle::B128);
  dev::wgmma_fence();
#pragma unroll
  for (int step = 0; step < Shape::kKeys / 16; ++step)
    dev::wgmma_rs(out, weights[step], dev::wgmma_desc_advance(b, static_cast<unsigned>(step) * 2048), true);
  dev::wgmma_commit();
}

template <int kColumns>
DEV_INLINE void hold(float (&accumulators)[kColumns][4]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) dev::wgmma_hold(accumulators[i][e]);
}

/// Named barriers by which warpgroups hand each other the tensor cores: `mine` is waited for by all of a
/// warpgroup, `other` announced to.
struct WgmmaTurns {
  static constexpr int kFirstBarrier = 1;
  int warpgroup;
  int count;  // turns that both take; the second warpgroup may have one tile more

  DEV_INLINE void begin() const {
    if (warpgroup == 1 && count > 0) dev::bar_arrive(kFirstBarrier, 256);
  }
  DEV_INLINE void wait(int turn) const {
    if (turn <= count) dev::bar_sync(kFirstBarrier + warpgroup, 256);
  }
  DEV_INLINE void pass(int turn) const {
    if (turn + warpgroup <= count) dev::bar_arrive(kFirstBarrier + 1 - warpgroup, 256);
  }
};

/// A consumer warpgroup.
template <int D, bool kTurns>
DEV_INLINE void attend_rows(const AttentionArgs& args, const WgmmaPrefillBlock<D>& block, int warpgroup) {
  using Shape = WgmmaPrefillShape<D>;
  constexpr int kScores = Shape::kKeys / 8;
  const int lane = lane_index(), first_row = warpgroup * 64;
  const dev::bf16* queries = block.queries + first_row * kPanelColumns;
  const int first_position = block.work.sequence.num_cached + block.work.first_row + first_row;
  const int warp_position = first_position - block.first_key + warp_index() % 4 * 16;  // from first_key on
  // At most the last tile lies beyond this warpgroup's diagonal: nobody waits for it to leave that one.
  const auto tiles_to = [&](int position) {
    return (min(block.work.length, position) - block.first_key + Shape::kKeys - 1) / Shape::kKeys;
  };
  const int num_tiles = tiles_to(first_position + 64);
  const WgmmaTurns turns{warpgroup, tiles_to(first_position - first_row + 64) - 1};
  const float scale = args.scale * kLog2E;
  WgmmaMbarriers& mbarriers = *block.mbarriers;

  float scores[kScores][4], out[D / 8][4], maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, factor[2];
  std::uint32_t weights[kScores / 2][4];
#pragma unroll
  for (int i = 0; i < D / 8; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) out[i][e] = 0;
  const auto wait = [](std::uint64_t(&full)[2], int tile) {
    dev::mbarrier_wait_parity(&full[tile % Shape::kStages], static_cast<unsigned>(tile / Shape::kStages) % 2);
  };
  const auto leave = [&](std::uint64_t(&empty)[2], int tile) {
    if (lane == 0) dev::mbarrier_arrive(&empty[tile % Shape::kStages]);
  };
  const auto weigh = [&](int tile) {
    hold(scores);
    leave(mbarriers.key_empty, tile);
    if (needs_mask(tile * Shape::kKeys, Shape::kKeys, warp_position, args.window))
      mask_scores(scores, tile * Shape::kKeys, warp_position, args.window, lane);
    weigh_scores(scores, maximum, sum, factor, scale);
  };
  const auto pack = [&] {
#pragma unroll
    for (int j = 0; j < kScores / 2; ++j) pack_weights(weights[j], scores, j);
  };

  if constexpr (kTurns) turns.begin();
  wait(mbarriers.key_full, 0);
  start_scores<D>(scores, queries, block.keys);
  dev::wgmma_wait<0>();
  weigh(0);
  pack();
  for (int i = 1; i < num_tiles; ++i) {
    wait(mbarriers.key_full, i);
    if constexpr (kTurns) turns.wait(i);
    hold(scores);
    start_scores<D>(scores, queries, block.keys + i % Shape::kStages * Shape::kStage);
    wait(mbarriers.value_full, i - 1);
    hold(out);
    start_values<D>(out, weights, block.values + (i - 1) % Shape::kStages * Shape::kStage);
    if constexpr (kTurns) turns.pass(i);
    dev::wgmma_wait<1>();  // the scores
    weigh(i);
    dev::wgmma_wait<0>();  // the output
    hold(out);
    leave(mbarriers.value_empty, i - 1);
    scale_rows(out, factor);
    pack();
  }
  wait(mbarriers.value_full, num_tiles - 1);
  hold(out);
  start_values<D>(out, weights, block.values + (num_tiles - 1) % Shape::kStages * Shape::kStage);
  dev::wgmma_wait<0>();
  hold(out);
  write_row_tile(args, block.work, out, sum, block.work.first_row + first_row + warp_index() % 4 * 16, lane);
}

template <int D, bool kTurns>
__global__ void __launch_bounds__(WgmmaPrefillShape<D>::kThreads, 1)
    attention_prefill_wgmma(const __grid_constant__ AttentionArgs args,
                            const __grid_constant__ dev::TensorMap2D cache) {
  using Shape = WgmmaPrefillShape<D>;
  DEV_SHARED(WgmmaMbarriers, mbarriers);
  WgmmaPrefillBlock<D> block;
  block.queries = dev::dynamic_smem<dev::bf16>();
  block.keys = block.queries + Shape::kPanels * Shape::kQueryPanel;
  block.values = block.keys + Shape::kStages * Shape::kStage;
  block.mbarriers = &mbarriers;
  block.work = find_prefill_work(args, Shape::kRows);
  block.first_key = block.work.begin / Shape::kKeys * Shape::kKeys;
  block.num_tiles = (block.work.length - block.first_key + Shape::kKeys - 1) / Shape::kKeys;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      dev::mbarrier_init(&mbarriers.key_full[stage], 1);
      dev::mbarrier_init(&mbarriers.value_full[stage], 1);
      dev::mbarrier_init(&mbarriers.key_empty[stage], 8);
      dev::mbarrier_init(&mbarriers.value_empty[stage], 8);
    }
    dev::mbarrier_init(&mbarriers.last_values, 1);
    dev::fence_mbarrier_init();
  }
  copy_query_panels<D>(args, block.work, block.queries);
  __syncthreads();
  const int warpgroup = warp_index() / 4;
  if (warpgroup == 2) {
    dev::shrink_registers<24>();
    if (warp_index() == 8) stream_tiles<D>(args, &cache, block);
  } else {
    dev::grow_registers<240>();
    attend_rows<D, kTurns>(args, block, warpgroup);
  }
}

template <int D, bool kTurns = false>
inline void launch_prefill_wgmma_padded(const AttentionArgs& args, dev::stream_t stream) {
  using Shape = WgmmaPrefillShape<D>;
  REDLINE_CHECK(Shape::kRows == prefill_tile_rows(args.shape), "the plan cuts tiles as the kernel does");
  const dim3 grid(static_cast<unsigned>(args.shape.num_q_heads),
                  static_cast<unsigned>(args.counts.num_prefill_tiles));
  dev::launch(attention_prefill_wgmma<D, kTurns>, grid, dim3(Shape::kThreads), Shape::kSharedBytes, stream,
              args, map_cache(args.kv));
}

/// Attends the sequences with several new tokens. Requires Hopper, and a block size that is a multiple of 16.
inline void launch_attention_prefill_wgmma(const AttentionArgs& args, dev::stream_t stream) {
  if (args.shape.head_dim <= 64)
    launch_prefill_wgmma_padded<64>(args, stream);
  else if (args.shape.head_dim <= 128)
    launch_prefill_wgmma_padded<128>(args, stream);
  else
    launch_prefill_wgmma_padded<256>(args, stream);
}

}  // namespace redline::cuda
