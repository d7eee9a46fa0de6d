// Rotary positions (Su et al. 2021) and the append to the paged cache, in one pass over qkv: for i below
// rotary_dim / 2, (a, b) = (x[i], x[i + rotary_dim / 2]) becomes (a cos - b sin, b cos + a sin); dimensions
// from rotary_dim on pass through. q rotates in place; k, rotated, and v go to the token's slot.
//
// A head's work is cut into units of V dimensions: a unit of the rotating part owns V pairs, one of the rest
// V elements. Each thread owns one unit of one head of one token; a unit of k or v reads from qkv and writes
// only to the cache. V is 8, or 1 where the shapes do not divide by 8.
// Limit: bytes: q read and written, k and v read and written, cos and sin once per head (from L2). Share
// reached: not yet measured.
#pragma once

#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kRopeThreads = 256;

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
  KvView kv;  // of the type that the launcher is told
};

template <class A, class Cache, int V>
__global__ void __launch_bounds__(kRopeThreads) rope_and_store_kv_kernel(const RopeArgs<A> args) {
  const int d = args.kv.head_dim, half = args.rotary_dim / 2;
  const int q_units = half / V, k_units = (d - half) / V, v_units = d / V;  // per head
  const int num_q = args.num_q_heads * q_units, num_k = args.kv.num_kv_heads * k_units;
  const int units = num_q + num_k + args.kv.num_kv_heads * v_units;
  const std::int64_t index = grid_thread<kRopeThreads>();
  if (index >= std::int64_t{args.num_tokens} * units) return;
  const int token = static_cast<int>(index / units);
  int unit = static_cast<int>(index % units);
  A* const heads = args.qkv + token * args.qkv_stride;
  const std::int64_t angles = std::int64_t{args.positions[token]} * half;

  const auto rotate = [&](const A* head, int i, float(&low)[V], float(&high)[V]) {
    float a[V], b[V], cos[V], sin[V];
    load_elements(head + i, a);
    load_elements(head + i + half, b);
    load_elements(args.cos + angles + i, cos);
    load_elements(args.sin + angles + i, sin);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      low[e] = a[e] * cos[e] - b[e] * sin[e];
      high[e] = b[e] * cos[e] + a[e] * sin[e];
    }
  };
  float low[V], high[V];
  if (unit < num_q) {
    A* const head = heads + unit / q_units * d;
    const int i = unit % q_units * V;
    rotate(head, i, low, high);
    store_elements(head + i, low);
    store_elements(head + i + half, high);
    return;
  }
  const std::int64_t slot = args.slots[token];
  const std::int64_t block = slot / args.kv.block_size, offset = slot % args.kv.block_size;
  const std::int64_t tile = std::int64_t{args.kv.block_size} * d;
  const auto cached = [&](int kv_head) {  // the token's K of this head; its V lies a tile further
    return reinterpret_cast<Cache*>(args.kv.data) + (block * args.kv.num_kv_heads + kv_head) * 2 * tile +
           offset * d;
  };
  unit -= num_q;
  if (unit < num_k) {
    const int kv_head = unit / k_units, i = unit % k_units * V;
    const A* const head = heads + (args.num_q_heads + kv_head) * d;
    if (i < half) {
      rotate(head, i, low, high);
      store_elements(cached(kv_head) + i, low);
      store_elements(cached(kv_head) + i + half, high);
    } else {  // past the rotating part
      load_elements(head + half + i, low);
      store_elements(cached(kv_head) + half + i, low);
    }
    return;
  }
  unit -= num_k;
  const int kv_head = unit / v_units, i = unit % v_units * V;
  load_elements(heads + (args.num_q_heads + args.kv.num_kv_heads + kv_head) * d + i, low);
  store_elements(cached(kv_head) + tile + i, low);
}

/// Rotates q of qkv in place and stores rotated k and v at the tokens' slots, rounded to Cache (bf16 or
/// float). Rotary dim even and at most the head dim; positions within the tables, slots within the cache.
template <class Cache, class A>
inline void rope_and_store_kv(const RopeArgs<A>& args, dev::stream_t stream) {
  const int d = args.kv.head_dim, half = args.rotary_dim / 2;
  if (args.num_tokens == 0) return;
  const bool vectors = d % 8 == 0 && half % 8 == 0 && vectors_fit(args.qkv, args.qkv_stride) &&
                       vectors_fit(args.cos, half) && vectors_fit(args.sin, half) &&
                       vectors_fit(reinterpret_cast<const Cache*>(args.kv.data), d);
  const std::int64_t elements =
      std::int64_t{args.num_q_heads} * half + std::int64_t{args.kv.num_kv_heads} * (2 * d - half);
  dev::launch(vectors ? rope_and_store_kv_kernel<A, Cache, 8> : rope_and_store_kv_kernel<A, Cache, 1>,
              grid_for<kRopeThreads>(args.num_tokens * elements / (vectors ? 8 : 1)), dim3(kRopeThreads), 0,
              stream, args);
}

}  // namespace redline::cuda
