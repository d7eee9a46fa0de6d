// Paged causal attention of many query rows: FlashAttention-2 (Dao 2023) with mma.sync m16n8k16, bf16 in,
// fp32 accumulation, over a cached prefix and the step's own tokens alike.
//
// One block: one query head, kRows rows of one sequence (a PrefillTile), kWarps warps of 16 kRowTiles rows
// each. A warp keeps its rows' scores and output in registers and rereads Q's fragments from shared memory; a
// fragment of K or V serves its kRowTiles row tiles, which halves the traffic of shared memory at two.
// Tiles of kKeys keys stream through two stages of cp.async, gathered by row from the cache's blocks; which
// row lies where is looked up one tile ahead, so that no copy waits for a table. Tiles beyond the diagonal
// and before the window are never loaded; the rows of P are bf16, its sums fp32. Heads of a group are
// neighbours in the grid, and so share K and V in L2. head_dim is padded to D with zeros. Limit: the tensor
// cores' mma.sync rate, 4 d FLOPs a causal pair. Not yet measured.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace redline::cuda {

template <int D>
struct PrefillShape {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRowTiles = D <= 128 ? 2 : 1;  // m16 tiles of a warp
  static constexpr int kRows = kWarps * kRowTiles * 16;
  static constexpr int kKeys = D <= 64 ? 64 : 32;
  static constexpr int kChunks = D / 8;  // of 16 bytes, a row
  static constexpr std::size_t kSharedBytes =
      static_cast<std::size_t>(kRows + 4 * kKeys) * PaddedRows<D>::kStride * sizeof(dev::bf16);
};

/// The registers of a warp: output, row maxima (raw scores) and this lane's share of the row sums.
template <int D>
struct PrefillState {
  static constexpr int kRowTiles = PrefillShape<D>::kRowTiles;
  float out[kRowTiles][D / 8][4];
  float maximum[kRowTiles][2];
  float sum[kRowTiles][2];
};

/// Starts copying the block's query rows; rows and columns that do not exist become zeros.
template <int D>
DEV_INLINE void copy_queries(const AttentionArgs& args, const PrefillWork& work, dev::bf16* shared) {
  using Shape = PrefillShape<D>;
  const dev::bf16* q = reinterpret_cast<const dev::bf16*>(args.q);
  for (int i = thread_index(); i < Shape::kRows * Shape::kChunks; i += Shape::kThreads) {
    const int row = i / Shape::kChunks, column = i % Shape::kChunks * 8, index = work.first_row + row;
    const bool exists = index < work.sequence.num_new && column < args.shape.head_dim;
    const std::int64_t source = exists ? (work.sequence.query_start + index) * args.q_stride +
                                             work.head * args.shape.head_dim + column
                                       : 0;
    dev::cp_async_16_zfill(shared + row * PaddedRows<D>::kStride + column, q + source, exists);
  }
}

/// Starts copying a tile of K and V; `rows` says where its keys lie.
template <int D>
DEV_INLINE void copy_keys_values(const AttentionArgs& args, const int* rows, dev::bf16* keys,
                                 dev::bf16* values) {
  using Shape = PrefillShape<D>;
  const dev::bf16* cache = reinterpret_cast<const dev::bf16*>(args.kv.data);
  const int head_dim = args.shape.head_dim;
#pragma unroll 2
  for (int i = 0; i < Shape::kKeys * Shape::kChunks / Shape::kThreads; ++i) {
    const int index = thread_index() + i * Shape::kThreads;
    const int key = index / Shape::kChunks, column = index % Shape::kChunks * 8, row = rows[key];
    const bool exists = row >= 0 && column < head_dim;
    const dev::bf16* source =
        cache + (exists ? static_cast<std::int64_t>(row) * head_dim + column : std::int64_t{0});
    const int target = key * PaddedRows<D>::kStride + column;
    dev::cp_async_16_zfill(keys + target, source, exists);
    dev::cp_async_16_zfill(values + target, source + (exists ? args.kv.block_size * head_dim : 0), exists);
  }
}

/// scores = Q K^T for the warp's rows.
template <int D>
DEV_INLINE void score_tile(float (&scores)[PrefillShape<D>::kRowTiles][PrefillShape<D>::kKeys / 8][4],
                           const dev::bf16* queries, const dev::bf16* keys, int lane) {
  using Shape = PrefillShape<D>;
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m)
#pragma unroll
    for (int j = 0; j < Shape::kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[m][j][e] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t a[Shape::kRowTiles][4];
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m)
      load_query_fragment<PaddedRows<D>>(a[m], queries, m * 16, step, lane);
#pragma unroll
    for (int j = 0; j < Shape::kKeys / 16; ++j) {
      std::uint32_t b[4];
      load_key_fragment<PaddedRows<D>>(b, keys, j * 16, step, lane);
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
        dev::mma_bf16_16816(scores[m][2 * j], a[m], b[0], b[1]);
        dev::mma_bf16_16816(scores[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// out += P V.
template <int D>
DEV_INLINE void accumulate_values(
    PrefillState<D>& state, const float (&weights)[PrefillShape<D>::kRowTiles][PrefillShape<D>::kKeys / 8][4],
    const dev::bf16* values, int lane) {
  using Shape = PrefillShape<D>;
#pragma unroll
  for (int j = 0; j < Shape::kKeys / 16; ++j) {
    std::uint32_t a[Shape::kRowTiles][4];
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m) pack_weights(a[m], weights[m], j);
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      std::uint32_t b[4];
      load_value_fragment<PaddedRows<D>>(b, values, j * 16, i * 16, lane);
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
        dev::mma_bf16_16816(state.out[m][2 * i], a[m], b[0], b[1]);
        dev::mma_bf16_16816(state.out[m][2 * i + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// One tile of keys, for the warp's rows: those at sequence positions first_position + 16 m + ...
template <int D>
DEV_INLINE void attend_tile(PrefillState<D>& state, const dev::bf16* queries, const dev::bf16* keys,
                            const dev::bf16* values, int first_key, int first_position, int window,
                            float scale, int lane) {
  using Shape = PrefillShape<D>;
  float scores[Shape::kRowTiles][Shape::kKeys / 8][4];
  score_tile<D>(scores, queries, keys, lane);
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m) {
    if (needs_mask(first_key, Shape::kKeys, first_position + m * 16, window))
      mask_scores(scores[m], first_key, first_position + m * 16, window, lane);
    float factor[2];
    weigh_scores(scores[m], state.maximum[m], state.sum[m], factor, scale);
    scale_rows(state.out[m], factor);
  }
  accumulate_values<D>(state, scores, values, lane);
}

template <int D>
__global__ void __launch_bounds__(PrefillShape<D>::kThreads)
    attention_prefill(const __grid_constant__ AttentionArgs args) {
  using Shape = PrefillShape<D>;
  const int thread = thread_index(), warp = warp_index(), lane = lane_index();
  const PrefillWork work = find_prefill_work(args, Shape::kRows);
  const std::int32_t* table = args.batch.block_tables + work.sequence.table_start;
  const int first_key = work.begin / Shape::kKeys * Shape::kKeys;  // of the first tile
  const int num_tiles = (work.length - first_key + Shape::kKeys - 1) / Shape::kKeys;
  const int warp_position = work.sequence.num_cached + work.first_row + warp * Shape::kRowTiles * 16;

  DEV_SHARED(int, rows, [2][Shape::kKeys]);  // where the keys of a tile lie, by the tile's parity
  constexpr int kStage = Shape::kKeys * PaddedRows<D>::kStride;
  dev::bf16* queries = dev::dynamic_smem<dev::bf16>();
  dev::bf16* keys = queries + Shape::kRows * PaddedRows<D>::kStride;
  dev::bf16* values = keys + 2 * kStage;
  const auto look_up = [&](int key_tile) {
    return thread < Shape::kKeys ? cache_row(args.kv, table, first_key + key_tile * Shape::kKeys + thread,
                                             work.begin, work.length, work.kv_head)
                                 : -1;
  };
  const auto note = [&](int key_tile, int row) {
    if (thread < Shape::kKeys) rows[key_tile % 2][thread] = row;
  };
  note(0, look_up(0));
  note(1, look_up(1));
  copy_queries<D>(args, work, queries);
  __syncthreads();
  copy_keys_values<D>(args, rows[0], keys, values);
  dev::cp_async_commit();

  PrefillState<D> state;
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m) {
    state.maximum[m][0] = state.maximum[m][1] = -INFINITY;
    state.sum[m][0] = state.sum[m][1] = 0;
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) state.out[m][i][e] = 0;
  }
  for (int i = 0; i < num_tiles; ++i) {
    const int stage = i % 2;
    if (i + 1 < num_tiles)
      copy_keys_values<D>(args, rows[stage ^ 1], keys + (stage ^ 1) * kStage, values + (stage ^ 1) * kStage);
    dev::cp_async_commit();
    const int next_row = look_up(i + 2);
    dev::cp_async_wait<1>();
    __syncthreads();  // every thread's copies of tile i have landed, and rows[stage] has been read
    const int tile_key = first_key + i * Shape::kKeys;
    if (tile_key < warp_position + Shape::kRowTiles * 16 &&
        tile_key + Shape::kKeys + args.window > warp_position + 1)
      attend_tile<D>(state, queries + warp * Shape::kRowTiles * 16 * PaddedRows<D>::kStride,
                     keys + stage * kStage, values + stage * kStage, tile_key, warp_position, args.window,
                     args.scale * kLog2E, lane);
    note(i, next_row);
    __syncthreads();  // this stage may be filled again, and rows[stage] is written
  }
  dev::cp_async_wait<0>();
  // Found again rather than held in registers meanwhile.
  const PrefillWork again = find_prefill_work(args, Shape::kRows);
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m)
    write_row_tile(args, again, state.out[m], state.sum[m],
                   again.first_row + (warp * Shape::kRowTiles + m) * 16, lane);
}

template <int D>
inline void launch_prefill_padded(const AttentionArgs& args, dev::stream_t stream) {
  using Shape = PrefillShape<D>;
  REDLINE_CHECK(Shape::kRows == prefill_tile_rows(args.shape), "the plan cuts tiles as the kernel does");
  const dim3 grid(static_cast<unsigned>(args.shape.num_q_heads),
                  static_cast<unsigned>(args.counts.num_prefill_tiles));
  dev::launch(attention_prefill<D>, grid, dim3(Shape::kThreads), Shape::kSharedBytes, stream, args);
}

/// Attends the sequences with several new tokens.
inline void launch_attention_prefill(const AttentionArgs& args, dev::stream_t stream) {
  const int head_dim = args.shape.head_dim;
  if (head_dim <= 64)
    launch_prefill_padded<64>(args, stream);
  else if (head_dim <= 96)
    launch_prefill_padded<96>(args, stream);
  else if (head_dim <= 128)
    launch_prefill_padded<128>(args, stream);
  else
    launch_prefill_padded<256>(args, stream);
}

}  // namespace redline::cuda
