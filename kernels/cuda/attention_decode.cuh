// Paged attention of few tokens on tensor cores: the (token, query head) pairs that read one KV head are the
// rows of one m16n8k16 tile (8 or 16 of them), so K and V are read once for the group; each row is split
// along its cache (attention_split.cuh). bf16 in, fp32 accumulation, online softmax.
//
// One block: a run of 64-token tiles of (rows, unit). One warp: 16 tokens of each tile, with a ring of its
// own in shared memory, filled by its own cp.async kStages - 1 steps ahead: warps meet only at the end of a
// segment. At the default block size a warp's 16 tokens are one cache block, 2 x 16 contiguous rows. Table
// entries are read one step before their copies are issued.
// Limit: memory bandwidth; (kStages - 1) x 4 x 2 x 16 rows in flight a block (64 KB at d = 128, two blocks
// an SM) against the 30 KB that latency asks for. Not yet measured.
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_split.cuh"

namespace redline::cuda {

inline constexpr int kGroupTokens = 16;  // of a warp at a time

template <int D>
struct DecodeShape {
  static constexpr int kStages = D <= 128 ? 3 : 2;
  static constexpr int kChunks = D / 8;                            // of 16 bytes, a row
  static constexpr int kHalfStage = kGroupTokens * kSharedRow<D>;  // elements: K, then V
  static constexpr int kWarpElements = kStages * 2 * kHalfStage;
  static constexpr std::size_t kSharedBytes =
      static_cast<std::size_t>(kSplitWarps * kWarpElements) * sizeof(dev::bf16);
};

/// Registers of a warp: pairs g and, if kHalves is 2, g + 8 of the unit.
template <int D, int kHalves>
struct DecodeState {
  std::uint32_t q[D / 16][4];
  float out[D / 8][4];  // pairs that do not exist stay 0
  float maximum[kHalves];
  float sum[kHalves];   // this lane's share
  int length[kHalves];  // tokens that the pair sees
};

/// Reads the pairs' rows of q as A fragments, and clears the rest. Pairs and columns that do not exist are
/// zero.
template <int D, int kHalves>
DEV_INLINE void begin_decode(const AttentionArgs& args, const SplitRows& rows, const SplitPairs& pairs,
                             int lane, DecodeState<D, kHalves>& state) {
  const dev::bf16* q = reinterpret_cast<const dev::bf16*>(args.q);
  const int head_dim = args.shape.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = lane / 4 + half * 8, token = pair / pairs.num_heads;
    const bool exists = half < kHalves && pair < pairs.num_pairs;
    const std::int64_t start =
        (rows.row + token) * args.q_stride + (pairs.first_head + pair - token * pairs.num_heads) * head_dim;
    if (half < kHalves) state.length[half] = rows.length - rows.num_tokens + 1 + token;
#pragma unroll
    for (int step = 0; step < D / 16; ++step)
#pragma unroll
      for (int i = half; i < 4; i += 2) {
        const int column = step * 16 + i / 2 * 8 + lane % 4 * 2;
        state.q[step][i] = 0;
        if (exists && column < head_dim)
          state.q[step][i] = *reinterpret_cast<const std::uint32_t*>(q + start + column);
      }
  }
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    state.maximum[r] = -INFINITY;
    state.sum[r] = 0;
  }
#pragma unroll
  for (int i = 0; i < D / 8; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) state.out[i][e] = 0;
}

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
    dev::bf16* target = stage + token * kSharedRow<D> + column;
    dev::cp_async_16_zfill(target, source, exists);
    dev::cp_async_16_zfill(target + Shape::kHalfStage, source + (exists ? args.kv.block_size * head_dim : 0),
                           exists);
  }
}

/// Joins the 16 tokens from `first_token` on.
template <int D, int kHalves>
DEV_INLINE void attend_group(DecodeState<D, kHalves>& state, const dev::bf16* keys, int first_token,
                             float scale, int lane) {
  float scores[2][4] = {};
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t b[4];
    load_key_fragment<D>(b, keys, 0, step, lane);
    dev::mma_bf16_16816(scores[0], state.q[step], b[0], b[1]);
    dev::mma_bf16_16816(scores[1], state.q[step], b[2], b[3]);
  }
  float factor[kHalves];
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    float maximum = state.maximum[r];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float& score = scores[j / 2][2 * r + j % 2];
      const int token = first_token + j / 2 * 8 + lane % 4 * 2 + j % 2;
      score = token < state.length[r] ? score * scale : -INFINITY;
      maximum = fmaxf(maximum, score);
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 2));
    const float base = maximum == -INFINITY ? 0 : maximum;  // a pair may see none of the tokens so far
    factor[r] = dev::ex2(state.maximum[r] - base);
    state.maximum[r] = maximum;
    state.sum[r] *= factor[r];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float& score = scores[j / 2][2 * r + j % 2];
      score = dev::ex2(score - base);
      state.sum[r] += score;
    }
  }
  bool moved = factor[0] != 1.f;
  if constexpr (kHalves == 2) moved = moved || factor[1] != 1.f;
  if (__any_sync(kAllLanes, moved)) {  // maxima seldom move after the first tokens
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
#pragma unroll
      for (int e = 0; e < 2 * kHalves; ++e) state.out[i][e] *= factor[e / 2];
  }
  const std::uint32_t weights[4] = {
      pack_bf16x2(scores[0][0], scores[0][1]), kHalves == 2 ? pack_bf16x2(scores[0][2], scores[0][3]) : 0u,
      pack_bf16x2(scores[1][0], scores[1][1]), kHalves == 2 ? pack_bf16x2(scores[1][2], scores[1][3]) : 0u};
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    std::uint32_t b[4];
    load_value_fragment<D>(b, keys + DecodeShape<D>::kHalfStage, 0, i * 16, lane);
    dev::mma_bf16_16816(state.out[2 * i], weights, b[0], b[1]);
    dev::mma_bf16_16816(state.out[2 * i + 1], weights, b[2], b[3]);
  }
}

/// A warp's groups of a segment, through its ring.
template <int D, int kHalves>
DEV_INLINE void attend_segment(const AttentionArgs& args, const SplitSegment& segment, int kv_head,
                               dev::bf16* ring, DecodeState<D, kHalves>& state) {
  using Shape = DecodeShape<D>;
  const int warp = warp_index(), lane = lane_index();
  const std::int32_t* table = args.batch.block_tables + segment.rows.table_start;
  const int begin = segment.first * kSplitTileTokens + warp * kGroupTokens;
  const int end = min(segment.end * kSplitTileTokens, segment.rows.length);
  const auto group_start = [&](int i) { return begin + i * kSplitTileTokens; };
  const auto look_up = [&](int i) {
    return lane < kGroupTokens ? cache_row(args.kv, table, group_start(i) + lane, end, kv_head) : -1;
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
    attend_group<D, kHalves>(state, ring + i % Shape::kStages * 2 * Shape::kHalfStage, group_start(i),
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
                     float* sums = reinterpret_cast<float*>(ring);
#pragma unroll
                     for (int r = 0; r < kHalves; ++r) {
                       const int pair = lane / 4 + r * 8;
                       float sum = state.sum[r];
                       sum += __shfl_xor_sync(kAllLanes, sum, 1);
                       sum += __shfl_xor_sync(kAllLanes, sum, 2);
                       if (lane % 4 == 0) {
                         scales[(warp * kPairs + pair) * 2] = state.maximum[r];
                         scales[(warp * kPairs + pair) * 2 + 1] = sum;
                       }
#pragma unroll
                       for (int i = 0; i < D / 8; ++i)
#pragma unroll
                         for (int e = 0; e < 2; ++e)
                           sums[pair * D + i * 8 + lane % 4 * 2 + e] = state.out[i][2 * r + e];
                     }
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
