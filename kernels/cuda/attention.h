// Paged attention on the device: what its kernels are given, how a step is divided among them, and the memory
// that the division takes. Plain data and host functions; attention.cuh launches.
//
// Sequences are divided in two. Those that compute few tokens (decode, drafts to verify, the end of a prompt)
// are split along their cache: 64-token tiles of every (few token rows, unit), where a unit is a KV head and
// as many of the query heads that read it as a kernel takes, are numbered through, and each block of a grid
// of fixed size takes an equal run of them. The others (prompts, chunks after a cached prefix) are cut into
// tiles of query rows. The division is made on the device, once a step, from the batch's arrays alone; so a
// captured graph replays for any lengths.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/batch.h"
#include "kernels/check.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/runtime.h"
#include "kernels/dtype.h"

namespace redline::cuda {

/// Which kernels run. kPlain: CUDA cores, every type, any head_dim to 256; each row is split along its cache.
/// kMma: bf16 throughout, head_dim a multiple of 8, mma.sync m16n8k16. kWgmma: Hopper's tensor copies, and
/// wgmma in prefill; head_dim at least 64, block sizes that are multiples of 16.
enum class AttentionRung : std::uint8_t { kPlain, kMma, kWgmma };

/// What stays the same from step to step.
struct AttentionShape {
  int num_q_heads = 0;  // a multiple of num_kv_heads
  int num_kv_heads = 0;
  int head_dim = 0;                      // at most kMaxHeadDim
  DType activation_type = DType::kBF16;  // of q and out: bf16 or f32
  DType cache_type = DType::kBF16;       // bf16 or f32
  int num_sms = 0;                       // multiprocessors of the device
  AttentionRung rung = AttentionRung::kPlain;
};

inline constexpr int kMaxHeadDim = 256;
inline constexpr float kLog2E = 1.44269504088896f;  // softmax in powers of two
inline constexpr int kNoWindow = 1 << 30;           // a window that no sequence outgrows
inline constexpr int kSplitTileTokens = 64;
inline constexpr int kSplitBlocksPerSm = 2;

inline int group_size(const AttentionShape& s) { return s.num_q_heads / s.num_kv_heads; }

/// The highest rung that types, sizes and the device's compute capability (80, 90, ...) allow.
inline AttentionRung highest_attention_rung(const AttentionShape& s, int block_size, int compute_capability) {
  const bool bf16 = s.activation_type == DType::kBF16 && s.cache_type == DType::kBF16;
  if (!bf16 || s.head_dim % 8 != 0) return AttentionRung::kPlain;
  if (compute_capability == 90 && block_size % 16 == 0 && s.head_dim >= 64)  // wgmma is of sm_90a alone
    return AttentionRung::kWgmma;
  // Consumer devices give a block 99 KB of shared memory: too little for kMma's widest heads.
  const bool consumer = compute_capability == 86 || compute_capability == 89 || compute_capability >= 120;
  return consumer && s.head_dim > 128 ? AttentionRung::kPlain : AttentionRung::kMma;
}

/// Whether a sequence with so many new tokens is split along its cache. To kMma and above, few are as many as
/// four tiles of 16 (token, head) pairs hold.
inline int max_split_tokens(const AttentionShape& s) {
  if (s.rung == AttentionRung::kPlain) return std::numeric_limits<int>::max();
  return std::max(1, 64 / group_size(s));
}

inline int num_split_blocks(const AttentionShape& s) { return s.num_sms * kSplitBlocksPerSm; }
/// Query rows of a prefill tile.
inline int prefill_tile_rows(const AttentionShape& s) {
  return s.rung == AttentionRung::kWgmma || s.head_dim <= 128 ? 128 : 64;
}

/// What the host must know of a step to launch it. Whatever `longest_split` was when a graph was captured,
/// its replays are right; told true, they are fast.
struct AttentionCounts {
  int num_split_rows = 0;     // 0 or not decides a launch
  int longest_split = 1;      // the most new tokens of a sequence that is split
  int num_prefill_tiles = 0;  // exact
};
inline AttentionCounts count_attention_work(std::span<const SequenceWork> sequences,
                                            const AttentionShape& s) {
  AttentionCounts counts;
  const int rows = prefill_tile_rows(s);
  for (const SequenceWork& sequence : sequences) {
    if (sequence.num_new <= max_split_tokens(s)) {
      counts.num_split_rows += sequence.num_new;
      counts.longest_split = std::max(counts.longest_split, sequence.num_new);
    } else {
      counts.num_prefill_tiles += (sequence.num_new + rows - 1) / rows;
    }
  }
  return counts;
}

/// How (token, head) pairs that read one KV head are gathered: `num_pairs` a unit of work at most, of
/// `num_tokens` tokens; `units_per_head` units cover the heads that share a KV head.
struct SplitUnits {
  int num_pairs = 1;
  int num_tokens = 1;
  int units_per_head = 1;
};
inline SplitUnits split_units(const AttentionShape& s, int longest_split) {
  const int group = group_size(s);
  SplitUnits units;
  if (s.rung == AttentionRung::kPlain) {
    units.num_pairs = group == 1 ? 1 : group <= 4 ? 4 : 8;
  } else {
    units.num_pairs = group <= 8 && longest_split == 1 && s.head_dim <= 128 ? 8 : 16;
    units.num_tokens = std::max(1, units.num_pairs / group);
  }
  units.units_per_head = (group + units.num_pairs - 1) / units.num_pairs;
  return units;
}
inline constexpr int kMaxSplitPairs = 16;

/// Token rows [row, row + num_tokens) of a sequence, whose attention is split along its cache; the last of
/// them sees tokens below `length`, the first of them tokens from `begin` on. `first_tile`: tiles of the rows
/// listed before.
struct SplitRows {
  std::int32_t row = 0;
  std::int32_t table_start = 0;
  std::int32_t begin = 0;
  std::int32_t length = 0;
  std::int32_t num_tokens = 0;
  std::int32_t first_tile = 0;
};
/// Where a block's run of tiles begins: tile `tile` of unit `unit` of the rows at `index` in the list. Tiles
/// are cut at multiples of kSplitTileTokens; a unit's first is the one that holds `begin`.
struct SplitStart {
  SplitRows rows;
  std::int32_t index = 0;
  std::int32_t unit = 0;
  std::int32_t tile = 0;
  std::int32_t num_tiles = 0;
};
/// Query rows [first_row, first_row + prefill_tile_rows) of a sequence, counted within it.
struct PrefillTile {
  std::int32_t sequence = 0;
  std::int32_t first_row = 0;
};

/// The division of a step and the memory in which blocks meet, all on the device.
struct AttentionPlan {
  SplitStart* starts = nullptr;             // [num_split_blocks]
  std::int32_t* tickets = nullptr;          // [num_split_blocks] 0 between kernels
  std::int32_t* tiles_per_block = nullptr;  // [1]
  SplitRows* rows = nullptr;                // [max_tokens]
  PrefillTile* tiles = nullptr;             // [max_tokens / rows of a tile + max_sequences]
  float* partial_sums = nullptr;            // [2 num_split_blocks, kMaxSplitPairs, head_dim]
  float* partial_scales = nullptr;  // [2 num_split_blocks, kMaxSplitPairs, 2]: maximum, sum of weights
};

namespace detail {
/// Lays the plan out from `base` on; returns its bytes.
inline std::size_t lay_out_attention_plan(AttentionPlan& plan, std::byte* base, const AttentionShape& s,
                                          int max_tokens, int max_sequences) {
  std::size_t used = 0;
  const auto take = [&](auto*& array, std::int64_t count) {
    using Element = std::remove_reference_t<decltype(*array)>;
    if (base != nullptr) array = reinterpret_cast<Element*>(base + used);
    used += (static_cast<std::size_t>(count) * sizeof(Element) + 255) / 256 * 256;
  };
  const std::int64_t blocks = num_split_blocks(s);
  take(plan.starts, blocks);
  take(plan.tickets, blocks);
  take(plan.tiles_per_block, 1);
  take(plan.rows, max_tokens);
  take(plan.tiles, max_tokens / prefill_tile_rows(s) + max_sequences);
  take(plan.partial_sums, 2 * blocks * kMaxSplitPairs * s.head_dim);
  take(plan.partial_scales, 2 * blocks * kMaxSplitPairs * 2);
  return used;
}
}  // namespace detail

/// Bytes of device memory for steps of at most `max_tokens` rows of `max_sequences` sequences (padding
/// included). Needs no initialisation. One suffices for all layers of a stream.
inline std::size_t attention_workspace_bytes(const AttentionShape& s, int max_tokens, int max_sequences) {
  AttentionPlan plan;
  return detail::lay_out_attention_plan(plan, nullptr, s, max_tokens, max_sequences);
}
/// The plan in `workspace`, aligned to 256 bytes.
inline AttentionPlan attention_plan(std::byte* workspace, const AttentionShape& s, int max_tokens,
                                    int max_sequences) {
  AttentionPlan plan;
  detail::lay_out_attention_plan(plan, workspace, s, max_tokens, max_sequences);
  return plan;
}

/// out[T, Hq d] = causal attention of q[T, Hq d] over the paged cache, which already holds this step's K and
/// V: softmax(scale q k^T) v, query head h reading KV head h / (Hq / Hkv), a query the last `window` tokens,
/// its own included. What lies before all windows of a sequence is not read. Rows `q_stride` and `out_stride`
/// elements apart. Unless head_dim is odd to 8, q, out and the cache are aligned to 16 bytes and the strides
/// are multiples of 8.
struct AttentionArgs {
  AttentionShape shape;
  DeviceBatch batch;
  KvView kv;
  AttentionPlan plan;
  AttentionCounts counts;
  const std::byte* q = nullptr;
  std::byte* out = nullptr;
  std::int64_t q_stride = 0;
  std::int64_t out_stride = 0;
  float scale = 0;         // > 0
  int window = kNoWindow;  // 1 to kNoWindow; the plan's
};

/// launch_attention_plan and launch_paged_attention (attention.cuh), whose kernels compile apart from who
/// calls them.
void plan_paged_attention(const AttentionArgs& args, dev::stream_t stream);
void run_paged_attention(const AttentionArgs& args, dev::stream_t stream);

}  // namespace redline::cuda
