// Work dealt out evenly, however it divides: tiles of equally many stages, all stages in a row, cut into one
// contiguous share for each block (stream-K; Osama et al. 2023). Where a share ends inside a tile, the blocks
// that share the tile leave f32 sums in memory, and the last to arrive adds them up in the blocks' order: the
// result does not depend on timing.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

/// What blocks that share a tile exchange, for one launch at a time. `arrived` is zero before the first
/// launch; every launch leaves it zero.
struct SplitWorkspace {
  float* sums = nullptr;        // [num_blocks, 2, values of a tile]
  unsigned* arrived = nullptr;  // [num_blocks]
};

struct StageSplit {
  int stages_per_tile = 0;
  int num_stages = 0;
};

/// Block `block` owns stages [first_stage(block), first_stage(block + 1)).
DEV_INLINE int first_stage(const StageSplit& split, int block) {
  return static_cast<int>(std::int64_t{block} * split.num_stages / static_cast<int>(gridDim.x));
}
DEV_INLINE int block_of_stage(const StageSplit& split, int stage) {
  return static_cast<int>(((std::int64_t{stage} + 1) * static_cast<int>(gridDim.x) - 1) / split.num_stages);
}

/// Where a stage lies; walks on without dividing.
struct StageCursor {
  int tile;
  int step;  // of the tile
};
DEV_INLINE StageCursor cursor_at(const StageSplit& split, int stage) {
  return {stage / split.stages_per_tile, stage % split.stages_per_tile};
}
DEV_INLINE void advance(StageCursor& cursor, const StageSplit& split) {
  if (++cursor.step < split.stages_per_tile) return;
  cursor.step = 0;
  ++cursor.tile;
}

/// The blocks that compute a tile, and where each leaves its sums. A block shares at most two tiles: the one
/// that its share begins in, and the one that it ends in.
struct TileOwners {
  int first;
  int last;
};
DEV_INLINE TileOwners owners_of(const StageSplit& split, int tile) {
  return {block_of_stage(split, tile * split.stages_per_tile),
          block_of_stage(split, (tile + 1) * split.stages_per_tile - 1)};
}
DEV_INLINE float* sums_left_by(const SplitWorkspace& workspace, const TileOwners& owners, int block,
                               int tile_values) {
  return workspace.sums + std::int64_t{2 * block + (block == owners.first ? 1 : 0)} * tile_values;
}

/// Called by `num_threads` threads of a block (barrier 1): whether `others` blocks have come before them, and
/// all that these did is seen. `arrived`, zero at first, is zero again then; `is_last` is shared by the
/// block, and free again at the threads' next barrier.
DEV_INLINE bool arrive_last(unsigned& arrived, unsigned others, int num_threads, unsigned& is_last) {
  __threadfence();
  dev::bar_sync(1, num_threads);
  if (thread_index() == 0) {
    is_last = atomicAdd(&arrived, 1u) == others ? 1 : 0;
    if (is_last) arrived = 0;
  }
  dev::bar_sync(1, num_threads);
  __threadfence();
  return is_last != 0;
}
/// The same after they have left a tile's sums: whether they are the last of its owners.
DEV_INLINE bool arrive_last(const SplitWorkspace& workspace, const TileOwners& owners, int num_threads,
                            unsigned& is_last) {
  return arrive_last(workspace.arrived[owners.first], static_cast<unsigned>(owners.last - owners.first),
                     num_threads, is_last);
}

}  // namespace redline::cuda
