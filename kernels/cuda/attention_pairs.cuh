// A warp's work on one segment of split attention with mma.sync: the (token, query head) pairs that read one
// KV head are the rows of one m16n8k16 tile, 8 or 16 of them; 16 tokens of the cache at a time.
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_split.cuh"

namespace redline::cuda {

inline constexpr int kGroupTokens = 16;  // of a warp at a time

/// Registers of a warp: pairs g and, if kHalves is 2, g + 8 of the unit.
template <int D, int kHalves>
struct DecodeState {
  std::uint32_t q[D / 16][4];
  float out[D / 8][4];  // pairs that do not exist stay 0
  float maximum[kHalves];
  float sum[kHalves];   // this lane's share
  int length[kHalves];  // tokens up to the last that the pair sees
};

/// The first group of tokens of a segment that a warp takes, every fourth from there on: not one that lies
/// before the window, whose block may be anyone's.
DEV_INLINE int first_group(const SplitSegment& segment, int warp) {
  const int first = segment.first_token() + warp * kGroupTokens;
  return first + kGroupTokens > segment.rows.begin ? first : first + kSplitTileTokens;
}

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

/// Joins the 16 tokens from `first_token` on.
template <class Layout, int D, int kHalves>
DEV_INLINE void attend_group(DecodeState<D, kHalves>& state, const dev::bf16* keys, const dev::bf16* values,
                             int first_token, int window, float scale, int lane) {
  float scores[2][4] = {};
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t b[4];
    load_key_fragment<Layout>(b, keys, 0, step, lane);
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
      const bool is_seen = token < state.length[r] && token + window >= state.length[r];
      score = is_seen ? score * scale : -INFINITY;
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
    load_value_fragment<Layout>(b, values, 0, i * 16, lane);
    dev::mma_bf16_16816(state.out[2 * i], weights, b[0], b[1]);
    dev::mma_bf16_16816(state.out[2 * i + 1], weights, b[2], b[3]);
  }
}

/// Leaves the warp's part for finish_segment: sums [pair][D], scales [pair][2].
template <int D, int kHalves>
DEV_INLINE void leave_part(const DecodeState<D, kHalves>& state, float* sums, float* scales, int lane) {
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    const int pair = lane / 4 + r * 8;
    float sum = state.sum[r];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (lane % 4 == 0) {
      scales[pair * 2] = state.maximum[r];
      scales[pair * 2 + 1] = sum;
    }
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) sums[pair * D + i * 8 + lane % 4 * 2 + e] = state.out[i][2 * r + e];
  }
}

}  // namespace redline::cuda
