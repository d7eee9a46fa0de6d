// Paged attention on CUDA cores, every type: softmax(scale q k^T) v with online softmax, each row split along
// its cache (attention_split.cuh).
//
// One block: a run of 64-token tiles of (row, unit). Warps take tokens in turn, 32 / kLanes of them at a
// time: kLanes lanes hold one token, each 8 elements (16 bytes of bf16, coalesced over a token's row and over
// neighbouring tokens, which lie side by side in their block). A lane keeps its 8 elements of q and of the
// output for every head of the unit, so that K and V are read once for the group.
// Limit: the bandwidth of memory in decode, 16 FMA a head for each 16 bytes of K and V. Not yet measured; the
// baseline of attention_decode.cuh. With prefill's rows it rereads the cache for each row: correct, not fast.
#pragma once

#include "kernels/cuda/attention_split.cuh"

namespace redline::cuda {

/// Eight neighbouring elements of T as loaded.
template <class T>
struct Octet {
  static constexpr int kVectors = static_cast<int>(sizeof(T)) / 2;
  uint4 raw[kVectors];
};

/// Loads elements [column, column + 8) of a row of `count`; beyond the row's end, zeros. Rows of a multiple
/// of 8 are read as vectors.
template <class T>
DEV_INLINE Octet<T> load_octet(const T* row, int column, int count) {
  Octet<T> octet;
#pragma unroll
  for (int i = 0; i < Octet<T>::kVectors; ++i) octet.raw[i] = make_uint4(0, 0, 0, 0);
  if (count % 8 == 0) {
    if (column < count) {
#pragma unroll
      for (int i = 0; i < Octet<T>::kVectors; ++i)
        octet.raw[i] = dev::ld_nc_v4(row + column + i * (8 / Octet<T>::kVectors));
    }
  } else {
    T elements[8];
    memcpy(elements, octet.raw, sizeof(elements));
    for (int i = 0; i < 8; ++i)
      if (column + i < count) elements[i] = row[column + i];
    memcpy(octet.raw, elements, sizeof(elements));
  }
  return octet;
}

DEV_INLINE void unpack(const Octet<float>& octet, float (&f)[8]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    f[4 * i] = __uint_as_float(octet.raw[i].x);
    f[4 * i + 1] = __uint_as_float(octet.raw[i].y);
    f[4 * i + 2] = __uint_as_float(octet.raw[i].z);
    f[4 * i + 3] = __uint_as_float(octet.raw[i].w);
  }
}
DEV_INLINE void unpack(const Octet<dev::bf16>& octet, float (&f)[8]) {
  const std::uint32_t words[4] = {octet.raw[0].x, octet.raw[0].y, octet.raw[0].z, octet.raw[0].w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = __uint_as_float(words[i] << 16);
    f[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

/// The parts (m, l, o) of one lane: all heads of the unit, eight columns.
template <int kHeads>
struct PlainState {
  float maximum[kHeads], weight[kHeads], sum[kHeads][8];
};

/// Joins `count` tokens' scores (log 2 units, -inf where there is no token) and values into the state.
template <int kHeads, int kCount>
DEV_INLINE void join_tokens(PlainState<kHeads>& state, const float (&scores)[kCount][kHeads],
                            const float (&values)[kCount][8]) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float maximum = state.maximum[h];
#pragma unroll
    for (int u = 0; u < kCount; ++u) maximum = fmaxf(maximum, scores[u][h]);
    const float factor = rescale(state.maximum[h], maximum);
    state.maximum[h] = maximum;
    state.weight[h] *= factor;
#pragma unroll
    for (int e = 0; e < 8; ++e) state.sum[h][e] *= factor;
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      const float p = rescale(scores[u][h], maximum);
      state.weight[h] += p;
#pragma unroll
      for (int e = 0; e < 8; ++e) state.sum[h][e] += p * values[u][e];
    }
  }
}

/// A warp's share of a segment's tokens.
template <class Cache, int kLanes, int kHeads>
DEV_INLINE void attend_plain(const AttentionArgs& args, const SplitSegment& segment, int kv_head,
                             const float (&q)[kHeads][8], PlainState<kHeads>& state) {
  constexpr int kTokens = 32 / kLanes;                 // of a warp at a time
  constexpr int kUnroll = sizeof(Cache) == 2 ? 4 : 2;  // loads in flight: 2 kUnroll of 8 elements a thread
  const int warp = warp_index(), lane = lane_index();
  const int column = lane % kLanes * 8, head_dim = args.kv.head_dim, block_size = args.kv.block_size;
  const std::int32_t* table = args.batch.block_tables + segment.rows.table_start;
  const Cache* cache = reinterpret_cast<const Cache*>(args.kv.data);
  const int end = segment.end_token();
  for (int base = segment.first_token() + warp * kTokens; base < end;
       base += kSplitWarps * kTokens * kUnroll) {
    Octet<Cache> keys[kUnroll], raw_values[kUnroll];
    bool exists[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int token = base + u * kSplitWarps * kTokens + lane / kLanes;
      exists[u] = token >= segment.rows.begin && token < end;
      const std::int64_t block = exists[u] ? table[token / block_size] : 0;
      const Cache* key = cache + ((block * args.kv.num_kv_heads + kv_head) * 2 * block_size +
                                  (exists[u] ? token % block_size : 0)) *
                                     head_dim;
      const int columns = exists[u] ? column : kMaxHeadDim;  // beyond the row: zeros, and no access
      keys[u] = load_octet(key, columns, head_dim);
      raw_values[u] = load_octet(key + block_size * head_dim, columns, head_dim);
    }
    float scores[kUnroll][kHeads], values[kUnroll][8];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      float key[8];
      unpack(keys[u], key);
      unpack(raw_values[u], values[u]);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        float score = 0;
#pragma unroll
        for (int e = 0; e < 8; ++e) score += q[h][e] * key[e];
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2)
          score += __shfl_xor_sync(kAllLanes, score, offset);
        scores[u][h] = exists[u] ? score : -INFINITY;
      }
    }
    join_tokens(state, scores, values);
  }
}

/// Joins the lanes that hold the same columns of different tokens; afterwards all of them hold the result.
template <int kLanes, int kHeads>
DEV_INLINE void join_lanes(PlainState<kHeads>& state) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) {
      const float other = __shfl_xor_sync(kAllLanes, state.maximum[h], offset);
      const float other_weight = __shfl_xor_sync(kAllLanes, state.weight[h], offset);
      const float maximum = fmaxf(state.maximum[h], other);
      const float factor = rescale(state.maximum[h], maximum), other_factor = rescale(other, maximum);
      state.maximum[h] = maximum;
      state.weight[h] = state.weight[h] * factor + other_weight * other_factor;
#pragma unroll
      for (int e = 0; e < 8; ++e)
        state.sum[h][e] =
            state.sum[h][e] * factor + __shfl_xor_sync(kAllLanes, state.sum[h][e], offset) * other_factor;
    }
  }
}

template <class Cache, int kLanes, int kHeads>
__global__ void __launch_bounds__(kSplitThreads, kSplitBlocksPerSm)
    attention_plain(const __grid_constant__ AttentionArgs args, SplitUnits units) {
  constexpr int kStride = kLanes * 8;
  DEV_SHARED(float, sums, [kSplitWarps * kHeads * kStride]);
  DEV_SHARED(float, scales, [kSplitWarps * kHeads * 2]);
  const int warp = warp_index(), lane = lane_index(), column = lane % kLanes * 8;
  const int head_dim = args.shape.head_dim;
  const float scale = args.scale * kLog2E;  // scores in units of log 2
  for_each_segment(
      args.plan, args.shape.num_kv_heads * units.units_per_head, [&](const SplitSegment& segment) {
        const SplitPairs pairs = find_pairs(args, segment, units);  // of one token: a pair is a head
        float q[kHeads][8];
        PlainState<kHeads> state;
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
          const std::int64_t start =
              segment.rows.row * args.q_stride + (pairs.first_head + min(h, pairs.num_heads - 1)) * head_dim;
          if (args.shape.activation_type == DType::kBF16)
            unpack(load_octet(reinterpret_cast<const dev::bf16*>(args.q) + start, column, head_dim), q[h]);
          else
            unpack(load_octet(reinterpret_cast<const float*>(args.q) + start, column, head_dim), q[h]);
          state.maximum[h] = -INFINITY;
          state.weight[h] = 0;
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            q[h][e] *= scale;
            state.sum[h][e] = 0;
          }
        }
        attend_plain<Cache, kLanes, kHeads>(args, segment, pairs.kv_head, q, state);
        join_lanes<kLanes>(state);
        if (lane < kLanes) {
#pragma unroll
          for (int h = 0; h < kHeads; ++h) {
#pragma unroll
            for (int e = 0; e < 8; ++e) sums[(warp * kHeads + h) * kStride + column + e] = state.sum[h][e];
            if (lane == 0) {
              scales[(warp * kHeads + h) * 2] = state.maximum[h];
              scales[(warp * kHeads + h) * 2 + 1] = state.weight[h];
            }
          }
        }
        finish_segment<kHeads>(args, segment, pairs, sums, kHeads * kStride, kStride, scales);
      });
}

template <class Cache, int kLanes>
inline void launch_plain_lanes(const AttentionArgs& args, dev::stream_t stream) {
  const SplitUnits units = split_units(args.shape, args.counts.longest_split);
  const auto run = [&](auto kernel) {
    dev::launch(kernel, dim3(static_cast<unsigned>(num_split_blocks(args.shape))), dim3(kSplitThreads), 0,
                stream, args, units);
  };
  switch (units.num_pairs) {
    case 1:
      return run(attention_plain<Cache, kLanes, 1>);
    case 4:
      return run(attention_plain<Cache, kLanes, 4>);
    default:
      return run(attention_plain<Cache, kLanes, 8>);
  }
}

/// Attends every listed row of args.plan.
template <class Cache>
inline void launch_attention_plain(const AttentionArgs& args, dev::stream_t stream) {
  if (args.shape.head_dim <= 64)
    launch_plain_lanes<Cache, 8>(args, stream);
  else if (args.shape.head_dim <= 128)
    launch_plain_lanes<Cache, 16>(args, stream);
  else
    launch_plain_lanes<Cache, 32>(args, stream);
}

}  // namespace redline::cuda
