// What q, k and v go through between their product and attention, in one pass over qkv: a bias; an RMS norm
// of q and k, head by head (Qwen3) or over all heads (OLMo 2); rotary positions (Su et al. 2021), by which
// for i below rotary_dim / 2, (a, b) = (x[i], x[i + rotary_dim / 2]) becomes (a cos - b sin, b cos + a sin)
// and dimensions from rotary_dim on pass through; and the append to the paged cache. q changes in place; k
// and v go to the token's slot.
//
// A head's work is cut into units of V dimensions: a unit of the rotating part owns V pairs, one of the rest
// V elements. Each thread owns one unit of one head of one token, wherever it lies in the grid. With norms a
// block owns a token: its warps first sum the squares of a head each, then its threads take the token's
// units, which reads q and k twice, the second time from L1. V is 8, or 1 where shapes do not divide by 8.
// Limit: bytes: q read and written, k and v read and written, cos and sin once per head (from L2). Share
// reached: not yet measured.
#pragma once

#include "kernels/check.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kRopeThreads = 256;
inline constexpr int kMaxNormedHeads = 512;

template <class A>
struct RopeArgs {
  A* qkv = nullptr;                         // [T, stride]: Hq heads of q, Hkv of k, Hkv of v, d elements each
  std::int64_t qkv_stride = 0;              // elements from one token to the next
  const std::int32_t* positions = nullptr;  // [T]
  const std::int64_t* slots = nullptr;      // [T]
  int num_tokens = 0;
  int num_q_heads = 0;
  const float* cos = nullptr;  // [positions, rotary_dim / 2]
  const float* sin = nullptr;
  int rotary_dim = 0;
  const float* bias = nullptr;    // [(Hq + 2 Hkv) d] or null
  const float* q_norm = nullptr;  // weights of q's norm, and of k's; both null: none
  const float* k_norm = nullptr;
  bool norm_joins_heads =
      false;  // one norm over all heads, weights [Hq d] and [Hkv d]; else [d], a norm a head
  float norm_eps = 0;
  KvView kv;  // of the type that the launcher is told
};

// Dimensions [i, i + V) of a head of one token, with bias and norm. `inverse_rms`: null, or by head.
template <int V, class A>
DEV_INLINE void load_head(const RopeArgs<A>& args, const A* token, int head, int i, const float* inverse_rms,
                          float (&f)[V]) {
  const int d = args.kv.head_dim;
  load_elements(token + head * d + i, f);
  float factor[V];
  if (args.bias != nullptr) {
    load_elements(args.bias + head * d + i, factor);
#pragma unroll
    for (int e = 0; e < V; ++e) f[e] += factor[e];
  }
  if (inverse_rms == nullptr || head >= args.num_q_heads + args.kv.num_kv_heads) return;
  const bool is_q = head < args.num_q_heads;
  const int first = args.norm_joins_heads ? (is_q ? head : head - args.num_q_heads) * d : 0;
  load_elements((is_q ? args.q_norm : args.k_norm) + first + i, factor);
#pragma unroll
  for (int e = 0; e < V; ++e) f[e] *= inverse_rms[head] * factor[e];
}

template <int V, class A>
DEV_INLINE int units_per_token(const RopeArgs<A>& args) {
  const int d = args.kv.head_dim, rotating_units = (d - args.rotary_dim / 2) / V;
  return (args.num_q_heads + args.kv.num_kv_heads) * rotating_units + args.kv.num_kv_heads * (d / V);
}

template <class Cache, int V, class A>
DEV_INLINE void transform_unit(const RopeArgs<A>& args, int token, int unit, const float* inverse_rms) {
  const int d = args.kv.head_dim, half = args.rotary_dim / 2, num_kv = args.kv.num_kv_heads;
  const int rotating_units = (d - half) / V, num_rotating = args.num_q_heads + num_kv;  // q and k
  const bool is_v = unit >= num_rotating * rotating_units;
  if (is_v) unit -= num_rotating * rotating_units;
  const int units = is_v ? d / V : rotating_units;
  const int head = (is_v ? num_rotating : 0) + unit / units;
  int i = unit % units * V;
  const bool is_pair = !is_v && i < half;
  if (!is_v && !is_pair) i += half;  // past both halves of the rotating part

  A* const heads = args.qkv + token * args.qkv_stride;
  float low[V], high[V] = {};
  load_head<V>(args, heads, head, i, inverse_rms, low);
  if (is_pair) {
    float b[V], cos[V], sin[V];
    load_head<V>(args, heads, head, i + half, inverse_rms, b);
    const std::int64_t angle = std::int64_t{args.positions[token]} * half + i;
    load_elements(args.cos + angle, cos);
    load_elements(args.sin + angle, sin);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      high[e] = b[e] * cos[e] + low[e] * sin[e];
      low[e] = low[e] * cos[e] - b[e] * sin[e];
    }
  }
  if (head < args.num_q_heads) {
    store_elements(heads + head * d + i, low);
    if (is_pair) store_elements(heads + head * d + i + half, high);
    return;
  }
  const std::int64_t slot = args.slots[token], tile = std::int64_t{args.kv.block_size} * d;
  const std::int64_t block = slot / args.kv.block_size, offset = slot % args.kv.block_size;
  const int kv_head = head - (is_v ? num_rotating : args.num_q_heads);
  Cache* const cached = reinterpret_cast<Cache*>(args.kv.data) +
                        ((block * num_kv + kv_head) * 2 + (is_v ? 1 : 0)) * tile + offset * d;
  store_elements(cached + i, low);
  if (is_pair) store_elements(cached + i + half, high);
}

template <class Cache, int V, class A>
__global__ void __launch_bounds__(kRopeThreads) rope_and_store_kv_kernel(const RopeArgs<A> args) {
  const int units = units_per_token<V>(args);
  const std::int64_t index = grid_thread<kRopeThreads>();
  if (index >= std::int64_t{args.num_tokens} * units) return;
  transform_unit<Cache, V>(args, static_cast<int>(index / units), static_cast<int>(index % units), nullptr);
}

template <class Cache, int V, class A>
__global__ void __launch_bounds__(kRopeThreads) norm_rope_and_store_kv_kernel(const RopeArgs<A> args) {
  constexpr int kWarps = kRopeThreads / kWarpSize;
  const int token = static_cast<int>(blockIdx.x), d = args.kv.head_dim;
  const int num_q = args.num_q_heads, num_heads = num_q + args.kv.num_kv_heads;
  DEV_SHARED(float, inverse_rms, [kMaxNormedHeads]);
  DEV_SHARED(float, square_sum, [kMaxNormedHeads]);
  for (int head = warp_index(); head < num_heads; head += kWarps) {
    float sum = 0;
    for (int i = lane_index() * V; i < d; i += kWarpSize * V) {
      float f[V];
      load_head<V>(args, args.qkv + token * args.qkv_stride, head, i, nullptr, f);
#pragma unroll
      for (int e = 0; e < V; ++e) sum += f[e] * f[e];
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) square_sum[head] = sum;
  }
  __syncthreads();
  for (int head = thread_index(); head < num_heads; head += kRopeThreads) {
    const int first = !args.norm_joins_heads ? head : head < num_q ? 0 : num_q;
    const int end = !args.norm_joins_heads ? head + 1 : head < num_q ? num_q : num_heads;
    float sum = 0;
    for (int joined = first; joined < end; ++joined) sum += square_sum[joined];
    inverse_rms[head] = rsqrtf(sum / static_cast<float>((end - first) * d) + args.norm_eps);
  }
  __syncthreads();
  for (int unit = thread_index(); unit < units_per_token<V>(args); unit += kRopeThreads)
    transform_unit<Cache, V>(args, token, unit, inverse_rms);
}

/// Adds the bias to qkv, norms q and k, rotates both; q in place, k and v to the tokens' slots, rounded to
/// Cache (bf16 or float). In f32 from the load of qkv to its store. Rotary dim even and at most the head dim;
/// positions within the tables, slots within the cache; with norms at most kMaxNormedHeads heads of q and k.
template <class Cache, class A>
inline void rope_and_store_kv(const RopeArgs<A>& args, dev::stream_t stream) {
  const int d = args.kv.head_dim, half = args.rotary_dim / 2,
            num_rotating = args.num_q_heads + args.kv.num_kv_heads;
  if (args.num_tokens == 0) return;
  const bool vectors =
      d % 8 == 0 && half % 8 == 0 && vectors_fit(args.qkv, args.qkv_stride) && vectors_fit(args.cos, half) &&
      vectors_fit(args.sin, half) && vectors_fit(args.bias, d) && vectors_fit(args.q_norm, d) &&
      vectors_fit(args.k_norm, d) && vectors_fit(reinterpret_cast<const Cache*>(args.kv.data), d);
  if (args.q_norm != nullptr) {
    REDLINE_CHECK(num_rotating <= kMaxNormedHeads, "heads that are normed fit shared memory");
    dev::launch(
        vectors ? norm_rope_and_store_kv_kernel<Cache, 8, A> : norm_rope_and_store_kv_kernel<Cache, 1, A>,
        dim3(static_cast<unsigned>(args.num_tokens)), dim3(kRopeThreads), 0, stream, args);
    return;
  }
  const std::int64_t elements =
      std::int64_t{num_rotating} * (d - half) + std::int64_t{args.kv.num_kv_heads} * d;
  dev::launch(vectors ? rope_and_store_kv_kernel<Cache, 8, A> : rope_and_store_kv_kernel<Cache, 1, A>,
              grid_for<kRopeThreads>(args.num_tokens * elements / (vectors ? 8 : 1)), dim3(kRopeThreads), 0,
              stream, args);
}

}  // namespace redline::cuda
