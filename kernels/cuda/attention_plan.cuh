// The division of a step's attention among blocks (attention.h), made on the device once a step.
//
// One block. Threads walk the rows in chunks; a scan over the block gives each row its place in the list and
// the number of tiles before it. Then each thread finds, by bisection, where some of the blocks begin.
// Bound by latency: a few microseconds, shared by all layers. Not yet measured.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.h"

namespace redline::cuda {

inline constexpr int kPlanThreads = 256;

/// Sum of `value` over the threads before this one; `total` over all. Every thread calls it.
DEV_INLINE std::uint64_t scan_plan_block(std::uint64_t value, std::uint64_t& total) {
  DEV_SHARED(std::uint64_t, warp_sums, [kPlanThreads / 32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint64_t inclusive = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const std::uint64_t other = __shfl_up_sync(0xffffffffu, inclusive, offset);
    if (lane >= offset) inclusive += other;
  }
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  std::uint64_t before = 0;
  total = 0;
  for (int w = 0; w < kPlanThreads / 32; ++w) {
    if (w < warp) before += warp_sums[w];
    total += warp_sums[w];
  }
  __syncthreads();  // the next scan writes warp_sums again
  return before + inclusive - value;
}

DEV_INLINE int ceil_div(int a, int b) { return (a + b - 1) / b; }

/// Lists the rows that are split along their cache; returns their tiles (of one unit) and how many they are.
DEV_INLINE int list_split_rows(const AttentionArgs& args, int& num_rows) {
  const bool every_row = args.shape.rung == AttentionRung::kPlain;
  const int num_items = every_row ? args.batch.num_tokens : args.batch.num_sequences;
  int num_tiles = 0;
  num_rows = 0;
  for (int base = 0; base < num_items; base += kPlanThreads) {
    const int item = base + static_cast<int>(threadIdx.x);
    SplitRow split;
    int tiles = 0;
    if (item < num_items) {
      const SequenceWork& sequence = args.batch.sequences[every_row ? args.batch.row_sequence[item] : item];
      split.row = every_row ? item : sequence.query_start;
      split.table_start = sequence.table_start;
      split.length = sequence.num_cached + split.row - sequence.query_start + 1;
      if (every_row || sequence.num_new == 1) tiles = ceil_div(split.length, kSplitTileTokens);
    }
    // Rows counted in the upper half, tiles in the lower.
    std::uint64_t total = 0;
    const std::uint64_t item_counts = tiles > 0 ? (1ull << 32) + static_cast<std::uint64_t>(tiles) : 0;
    const std::uint64_t before = scan_plan_block(item_counts, total);
    if (tiles > 0) {
      split.first_tile = num_tiles + static_cast<int>(before & 0xffffffffu);
      args.plan.rows[num_rows + static_cast<int>(before >> 32)] = split;
    }
    num_rows += static_cast<int>(total >> 32);
    num_tiles += static_cast<int>(total & 0xffffffffu);
  }
  return num_tiles;
}

/// Cuts sequences of several new tokens into tiles of query rows, the last rows (the most work) first.
DEV_INLINE void list_prefill_tiles(const AttentionArgs& args, int tile_rows) {
  int num_tiles = 0;
  for (int base = 0; base < args.batch.num_sequences; base += kPlanThreads) {
    const int index = base + static_cast<int>(threadIdx.x);
    const int num_new = index < args.batch.num_sequences ? args.batch.sequences[index].num_new : 0;
    const int tiles = num_new > 1 ? ceil_div(num_new, tile_rows) : 0;
    std::uint64_t total = 0;
    const int first = num_tiles + static_cast<int>(scan_plan_block(static_cast<std::uint64_t>(tiles), total));
    for (int i = 0; i < tiles; ++i) args.plan.tiles[first + i] = {index, (tiles - 1 - i) * tile_rows};
    num_tiles += static_cast<int>(total);
  }
}

__global__ void __launch_bounds__(kPlanThreads)
    plan_attention(const __grid_constant__ AttentionArgs args, int units, int num_blocks, int tile_rows) {
  int num_rows = 0;
  const int total = list_split_rows(args, num_rows) * units;
  const int per_block = ceil_div(total, num_blocks);
  __syncthreads();  // the list is read by all
  for (int block = static_cast<int>(threadIdx.x); block < num_blocks; block += kPlanThreads) {
    SplitStart start;
    const int first = block * per_block;
    if (first < total) {
      int low = 0, high = num_rows;  // the last row that begins at or before `first`
      while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (args.plan.rows[middle].first_tile * units <= first)
          low = middle;
        else
          high = middle;
      }
      const SplitRow row = args.plan.rows[low];
      const int tiles = ceil_div(row.length, kSplitTileTokens), offset = first - row.first_tile * units;
      start = {low, offset / tiles, offset % tiles, min(per_block, total - first)};
    }
    args.plan.starts[block] = start;
    args.plan.tickets[block] = 0;
  }
  if (threadIdx.x == 0) *args.plan.tiles_per_block = per_block;
  if (args.shape.rung != AttentionRung::kPlain) list_prefill_tiles(args, tile_rows);
}

/// Fills args.plan from args.batch: once a step, before its first launch_paged_attention. Of args it reads
/// shape, batch and plan.
inline void launch_attention_plan(const AttentionArgs& args, dev::stream_t stream) {
  const AttentionShape& s = args.shape;
  REDLINE_CHECK(s.num_kv_heads > 0 && s.num_q_heads % s.num_kv_heads == 0 && s.num_sms > 0,
                "attention needs a shape");
  dev::launch(plan_attention, dim3(1), dim3(kPlanThreads), 0, stream, args,
              s.num_kv_heads * units_per_kv_head(s), num_split_blocks(s), prefill_tile_rows(s));
}

}  // namespace redline::cuda
