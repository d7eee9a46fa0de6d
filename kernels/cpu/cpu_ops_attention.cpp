// The operations of CpuOps that touch the KV cache.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_ops.h"

namespace redline {
namespace {

float load_element(const std::byte* tile, DType dtype, std::int64_t index) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(tile)[index];
  const std::uint32_t bits = reinterpret_cast<const std::uint16_t*>(tile)[index];
  return std::bit_cast<float>(bits << 16);
}

void store_element(std::byte* tile, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(tile)[index] = value;
    return;
  }
  const auto bits = std::bit_cast<std::uint32_t>(value);  // round to nearest even
  reinterpret_cast<std::uint16_t*>(tile)[index] =
      static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void rotate(float* head, const float* cos, const float* sin, int rotary_dim) {
  for (int i = 0, half = rotary_dim / 2; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = a * sin[i] + b * cos[i];
  }
}

}  // namespace

void CpuOps::do_rope_and_store_kv(TensorView qkv, int num_q_heads, const RopeView& rope,
                                  const KvLayerView& kv) {
  const int d = kv.head_dim;
  pool_.run(qkv.rows, [&](std::int64_t row, int) {
    const auto at = static_cast<std::size_t>(row);
    const float* cos = rope.cos + batch().positions[at] * std::int64_t{rope.rotary_dim / 2};
    const float* sin = rope.sin + batch().positions[at] * std::int64_t{rope.rotary_dim / 2};
    float* heads = qkv.f32(row);
    for (int h = 0; h < num_q_heads + kv.num_kv_heads; ++h)
      rotate(heads + std::int64_t{h} * d, cos, sin, rope.rotary_dim);
    const std::int64_t block = batch().slots[at] / kv.block_size;
    const auto offset = static_cast<int>(batch().slots[at] % kv.block_size);
    for (int h = 0; h < kv.num_kv_heads; ++h) {
      const float* k = heads + std::int64_t{num_q_heads + h} * d;
      const float* v = k + std::int64_t{kv.num_kv_heads} * d;
      for (int i = 0; i < d; ++i) {
        store_element(kv.k_tile(block, h), kv.dtype, kv.k_index(offset, i), k[i]);
        store_element(kv.v_tile(block, h), kv.dtype, kv.v_index(offset, i), v[i]);
      }
    }
  });
}

void CpuOps::do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv,
                                float scale) {
  const int d = kv.head_dim;
  for (const SequenceWork& sequence : batch().sequences) {
    const std::int32_t* table = batch().block_tables.data() + sequence.table_start;
    pool_.run(std::int64_t{sequence.num_new} * num_q_heads, [&](std::int64_t chunk, int) {
      const std::int64_t token = chunk / num_q_heads;
      const int head = static_cast<int>(chunk % num_q_heads),
                kv_head = head / (num_q_heads / kv.num_kv_heads);
      const float* q = qkv.f32(sequence.query_start + token) + std::int64_t{head} * d;
      const std::int64_t length = sequence.num_cached + token + 1;
      std::vector<float> scores(static_cast<std::size_t>(length)), sum(static_cast<std::size_t>(d));
      float largest = -INFINITY, total = 0;
      for (std::int64_t t = 0; t < length; ++t) {
        const std::byte* tile = kv.k_tile(table[t / kv.block_size], kv_head);
        float dot = 0;
        for (int i = 0; i < d; ++i)
          dot += q[i] * load_element(tile, kv.dtype, kv.k_index(static_cast<int>(t % kv.block_size), i));
        scores[static_cast<std::size_t>(t)] = dot * scale;
        largest = std::max(largest, dot * scale);
      }
      for (std::int64_t t = 0; t < length; ++t) {
        const float p = std::exp(scores[static_cast<std::size_t>(t)] - largest);
        const std::byte* tile = kv.v_tile(table[t / kv.block_size], kv_head);
        total += p;
        for (int i = 0; i < d; ++i)
          sum[static_cast<std::size_t>(i)] +=
              p * load_element(tile, kv.dtype, kv.v_index(static_cast<int>(t % kv.block_size), i));
      }
      float* to = out.f32(sequence.query_start + token) + std::int64_t{head} * d;
      for (int i = 0; i < d; ++i) to[i] = sum[static_cast<std::size_t>(i)] / total;
    });
  }
}

void CpuOps::do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) {
  for (const KvLayerView& layer : layers)
    for (const BlockCopy& copy : copies)
      std::memcpy(layer.data + copy.target * layer.block_bytes(),
                  layer.data + copy.source * layer.block_bytes(),
                  static_cast<std::size_t>(layer.block_bytes()));
}

}  // namespace redline
