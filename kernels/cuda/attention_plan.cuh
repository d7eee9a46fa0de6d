// The division of a step's attention among blocks (attention.h), made on the device once a step.
//
// One block. Threads walk the sequences in chunks; a scan over the block gives each its place in the list and
// the number of tiles before it. Then each thread finds, by bisection, where some of the blocks begin.
// Bound by latency: a few microseconds, shared by all layers. Not yet measured.
#pragma once

#include "kernels/cuda/attention_split.cuh"

namespace redline::cuda {

inline constexpr int kPlanThreads = 256;

/// Sum of `value` over the threads before this one; `total` over all. Every thread calls it.
DEV_INLINE std::uint64_t scan_plan_block(std::uint64_t value, std::uint64_t& total) {
  DEV_SHARED(std::uint64_t, warp_sums, [kPlanThreads / 32]);
  const int lane = lane_index(), warp = warp_index();
  std::uint64_t inclusive = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const std::uint64_t other = __shfl_up_sync(kAllLanes, inclusive, offset);
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

/// How a step is divided: what the host tells the plan.
struct AttentionDivision {
  SplitUnits units;
  int max_split_tokens;
  int num_blocks;
  int tile_rows;
};

/// Lists the rows that are split along their cache; returns their tiles (of one unit) and how many entries
/// the list has.
DEV_INLINE int list_split_rows(const AttentionArgs& args, const AttentionDivision& division,
                               int& num_listed) {
  int num_tiles = 0;
  num_listed = 0;
  for (int base = 0; base < args.batch.num_sequences; base += kPlanThreads) {
    const int index = base + thread_index();
    SequenceWork sequence;
    if (index < args.batch.num_sequences) sequence = args.batch.sequences[index];
    const int num_new = sequence.num_new <= division.max_split_tokens ? sequence.num_new : 0;
    const auto rows_from = [&](int first) {
      SplitRows rows;
      rows.row = sequence.query_start + first;
      rows.table_start = sequence.table_start;
      rows.num_tokens = min(division.units.num_tokens, num_new - first);
      rows.length = sequence.num_cached + first + rows.num_tokens;
      rows.begin = max(0, sequence.num_cached + first + 1 - args.window);
      return rows;
    };
    // Entries counted in the upper half, tiles in the lower.
    std::uint64_t counts = 0, total = 0;
    for (int first = 0; first < num_new; first += division.units.num_tokens)
      counts += (1ull << 32) + static_cast<std::uint64_t>(split_tiles(rows_from(first)));
    const std::uint64_t before = scan_plan_block(counts, total);
    int entry = num_listed + static_cast<int>(before >> 32);
    int tile = num_tiles + static_cast<int>(before & 0xffffffffu);
    for (int first = 0; first < num_new; first += division.units.num_tokens) {
      SplitRows rows = rows_from(first);
      rows.first_tile = tile;
      tile += split_tiles(rows);
      args.plan.rows[entry++] = rows;
    }
    num_listed += static_cast<int>(total >> 32);
    num_tiles += static_cast<int>(total & 0xffffffffu);
  }
  return num_tiles;
}

/// Cuts the other sequences into tiles of query rows, the last rows (the most work) first.
DEV_INLINE void list_prefill_tiles(const AttentionArgs& args, const AttentionDivision& division) {
  int num_tiles = 0;
  for (int base = 0; base < args.batch.num_sequences; base += kPlanThreads) {
    const int index = base + thread_index();
    const int num_new = index < args.batch.num_sequences ? args.batch.sequences[index].num_new : 0;
    const int tiles = num_new > division.max_split_tokens ? ceil_div(num_new, division.tile_rows) : 0;
    std::uint64_t total = 0;
    const int first = num_tiles + static_cast<int>(scan_plan_block(static_cast<std::uint64_t>(tiles), total));
    for (int i = 0; i < tiles; ++i)
      args.plan.tiles[first + i] = {index, (tiles - 1 - i) * division.tile_rows};
    num_tiles += static_cast<int>(total);
  }
}

__global__ void __launch_bounds__(kPlanThreads)
    plan_attention(const __grid_constant__ AttentionArgs args, AttentionDivision division) {
  const int units = args.shape.num_kv_heads * division.units.units_per_head;
  int num_listed = 0;
  const int total = list_split_rows(args, division, num_listed) * units;
  const int per_block = ceil_div(total, division.num_blocks);
  __syncthreads();  // the list is read by all
  for (int block = thread_index(); block < division.num_blocks; block += kPlanThreads) {
    SplitStart start;
    const int first = block * per_block;
    if (first < total) {
      int low = 0, high = num_listed;  // the last entry that begins at or before `first`
      while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (args.plan.rows[middle].first_tile * units <= first)
          low = middle;
        else
          high = middle;
      }
      start.rows = args.plan.rows[low];
      const int tiles = split_tiles(start.rows);
      const int offset = first - start.rows.first_tile * units;
      start.index = low;
      start.unit = offset / tiles;
      start.tile = offset % tiles;
      start.num_tiles = min(per_block, total - first);
    }
    args.plan.starts[block] = start;
    args.plan.tickets[block] = 0;
  }
  if (threadIdx.x == 0) *args.plan.tiles_per_block = per_block;
  list_prefill_tiles(args, division);
}

/// Fills args.plan from args.batch: once a step, before its first launch_paged_attention. Of args it reads
/// shape, batch, plan, counts and window.
inline void launch_attention_plan(const AttentionArgs& args, dev::stream_t stream) {
  const AttentionShape& s = args.shape;
  REDLINE_CHECK(s.num_kv_heads > 0 && s.num_q_heads % s.num_kv_heads == 0 && s.num_sms > 0,
                "attention needs a shape");
  REDLINE_CHECK(args.window > 0 && args.window <= kNoWindow, "a window of 1 to kNoWindow tokens");
  const AttentionDivision division{split_units(s, args.counts.longest_split), max_split_tokens(s),
                                   num_split_blocks(s), prefill_tile_rows(s)};
  dev::launch(plan_attention, dim3(1), dim3(kPlanThreads), 0, stream, args, division);
}

}  // namespace redline::cuda
