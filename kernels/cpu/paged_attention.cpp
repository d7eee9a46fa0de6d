#include "kernels/cpu/paged_attention.h"

#include <algorithm>
#include <atomic>

#include "kernels/check.h"

namespace redline::cpu {
namespace {

// A tile is cut when it is more than this share of one thread's work.
constexpr std::int64_t kTilesPerThread = 4;
// Below so many multiply-adds, waking the other threads takes longer than the work.
constexpr std::int64_t kMinParallelWork = 1 << 16;

int first_key(const AttentionTile& tile) {
  return tile.window > 0 ? std::max(0, tile.first_position + 1 - tile.window) : 0;
}
int end_key(const AttentionTile& tile) { return tile.first_position + tile.num_tokens; }

std::int64_t multiply_adds(const AttentionTile& tile) {
  return std::int64_t{2} * (end_key(tile) - first_key(tile)) * tile.num_tokens * tile.num_heads *
         tile.kv.head_dim;
}

}  // namespace

PagedAttention::PagedAttention(const AttentionKernels& kernels, ThreadPool& pool)
    : kernels_(kernels), pool_(pool) {
  for (int i = 0; i < pool.num_threads(); ++i)
    scratch_.emplace_back((kAttentionScratch + kStateFloats) * sizeof(float));
}

void PagedAttention::run(const BatchView& batch, TensorView out, TensorView qkv, int num_q_heads,
                         const KvLayerView& kv, float scale, int window) {
  REDLINE_CHECK(kv.dtype == DType::kF32 || kv.dtype == DType::kBF16 || kv.dtype == DType::kQ8_0,
                "the cache is f32, bf16 or q8_0");
  REDLINE_CHECK(kv.dtype != DType::kQ8_0 || kv.head_dim % 32 == 0, "q8_0 of whole blocks");
  REDLINE_CHECK(kv.block_size % 16 == 0, "blocks of a multiple of 16 tokens");
  REDLINE_CHECK(kv.head_dim % 2 == 0 && kv.head_dim <= kMaxHeadDim, "an even head dim of at most 256");
  make_tiles(batch, out, qkv, num_q_heads, kv, scale, window);
  make_units();
  std::int64_t work = 0;
  for (const AttentionTile& tile : tiles_) work += multiply_adds(tile);
  const auto num_units = static_cast<std::int64_t>(units_.size());
  if (work < kMinParallelWork) {
    for (const Unit& unit : units_) run_unit(unit, 0);
    return;
  }
  pool_.run(num_units,
            [this](std::int64_t i, int thread) { run_unit(units_[static_cast<std::size_t>(i)], thread); });
}

void PagedAttention::make_tiles(const BatchView& batch, TensorView out, TensorView qkv, int num_q_heads,
                                const KvLayerView& kv, float scale, int window) {
  const int group = num_q_heads / kv.num_kv_heads, heads = std::min(group, kMaxTileRows);
  const int tokens = kMaxTileRows / heads;
  tiles_.clear();
  for (const SequenceWork& s : batch.sequences)
    for (int kv_head = 0; kv_head < kv.num_kv_heads; ++kv_head) {
      const KvHead keys{.data = kv.k_tile(0, kv_head),
                        .block_bytes = kv.block_bytes(),
                        .tile_bytes = kv.tile_bytes(),
                        .table = batch.block_tables.data() + s.table_start,
                        .block_size = kv.block_size,
                        .head_dim = kv.head_dim,
                        .dtype = kv.dtype};
      for (int token = 0; token < s.num_new; token += tokens)
        for (int head = 0; head < group; head += heads) {
          const std::int64_t column = (std::int64_t{kv_head} * group + head) * kv.head_dim;
          tiles_.push_back({.kv = keys,
                            .q = qkv.f32(s.query_start + token) + column,
                            .out = out.f32(s.query_start + token) + column,
                            .q_stride = qkv.row_stride,
                            .out_stride = out.row_stride,
                            .num_tokens = std::min(tokens, s.num_new - token),
                            .num_heads = std::min(heads, group - head),
                            .first_position = s.num_cached + token,
                            .window = window,
                            .scale = scale});
        }
    }
}

void PagedAttention::make_units() {
  std::int64_t work = 0, state_floats = 0;
  for (const AttentionTile& tile : tiles_) work += multiply_adds(tile);
  const std::int64_t largest = work / (kTilesPerThread * pool_.num_threads());
  units_.clear();
  cuts_.assign(tiles_.size(), Cut{});
  for (std::size_t i = 0; i < tiles_.size(); ++i) {
    const AttentionTile& tile = tiles_[i];
    const int first = first_key(tile) / kSegmentTokens;
    const int last = (end_key(tile) + kSegmentTokens - 1) / kSegmentTokens;
    const bool cut = pool_.num_threads() > 1 && last - first > 1 && multiply_adds(tile) > largest;
    if (!cut) {
      units_.push_back({static_cast<int>(i), first, last, false});
      continue;
    }
    cuts_[i] = {state_floats, first, last - first, last - first};
    state_floats += std::int64_t{last - first} * tile.num_tokens * tile.num_heads * kScratchStride;
    for (int segment = first; segment < last; ++segment)
      units_.push_back({static_cast<int>(i), segment, segment + 1, true});
  }
  const auto bytes = static_cast<std::size_t>(state_floats) * sizeof(float);
  if (states_.size() < bytes) states_ = Buffer(bytes);
}

void PagedAttention::run_unit(const Unit& unit, int thread) {
  const AttentionTile& tile = tiles_[static_cast<std::size_t>(unit.tile)];
  auto* scratch = reinterpret_cast<float*>(scratch_[static_cast<std::size_t>(thread)].data());
  if (!unit.cut) {
    float* state = scratch + kAttentionScratch;
    kernels_.attend_segments(tile, unit.first_segment, unit.last_segment, scratch, state);
    kernels_.finish(tile, state, 1);
    return;
  }
  Cut& cut = cuts_[static_cast<std::size_t>(unit.tile)];
  float* states = reinterpret_cast<float*>(states_.data()) + cut.first_state;
  const std::int64_t state_floats = std::int64_t{tile.num_tokens} * tile.num_heads * kScratchStride;
  kernels_.attend_segments(tile, unit.first_segment, unit.last_segment, scratch,
                           states + (unit.first_segment - cut.first_segment) * state_floats);
  if (std::atomic_ref(cut.remaining).fetch_sub(1, std::memory_order_acq_rel) == 1)
    kernels_.finish(tile, states, cut.num_segments);
}

}  // namespace redline::cpu
