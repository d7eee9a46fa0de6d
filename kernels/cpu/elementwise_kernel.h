// Norms, activation and rotary embedding, written once for every instruction set. Each reads and writes a row
// in the first-level cache; sums run over fixed lanes, so a row's result depends on that row alone.
#pragma once

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/lanes_math.h"

namespace redline::cpu {

template <class L>
class Elementwise {
 public:
  static void rms_norm(float* out, const float* x, const float* weight, std::int64_t n, float eps) {
    L sum[2] = {L::broadcast(0), L::broadcast(0)};
    for (std::int64_t i = 0; i < n; i += 16) add_square(sum[i / 16 % 2], load(x, i, n));
    normalize(out, x, weight, n, (sum[0] + sum[1]).sum(), eps);
  }

  static void add_rms_norm(float* out, float* residual, const float* delta, const float* weight,
                           std::int64_t n, float eps) {
    L sum[2] = {L::broadcast(0), L::broadcast(0)};
    for (std::int64_t i = 0; i < n; i += 16) {
      const L x = load(residual, i, n) + load(delta, i, n);
      store(x, residual, i, n);
      add_square(sum[i / 16 % 2], x);
    }
    normalize(out, residual, weight, n, (sum[0] + sum[1]).sum(), eps);
  }

  static void rms_norm_add(float* out, float* residual, const float* delta, const float* weight,
                           std::int64_t n, float eps) {
    rms_norm(out, delta, weight, n, eps);
    for (std::int64_t i = 0; i < n; i += 16) {
      const L sum = load(residual, i, n) + load(out, i, n);
      store(sum, residual, i, n);
      store(sum, out, i, n);
    }
  }

  static void silu_mul(float* out, const float* gate, const float* up, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += 16) store(silu(load(gate, i, n)) * load(up, i, n), out, i, n);
  }

  static void rope_and_store(const RopeTask& task) {
    const int dim = task.head_dim;
    float* head = task.heads;
    if (task.bias) add(head, task.bias, (task.num_q_heads + 2 * task.num_kv_heads) * dim);
    if (task.q_norm) {
      norm_heads(task, head, task.num_q_heads, task.q_norm);
      norm_heads(task, head + task.num_q_heads * dim, task.num_kv_heads, task.k_norm);
    }
    for (int h = 0; h < task.num_q_heads; ++h, head += dim) rotate(task, head);
    const float* value = head + task.num_kv_heads * dim;
    for (int h = 0; h < task.num_kv_heads; ++h, head += dim, value += dim) {
      rotate(task, head);
      const std::int64_t offset = h * task.head_bytes;
      if (task.dtype == DType::kBF16) store_bf16(task, head, value, offset);
      if (task.dtype == DType::kF32) store_f32(task, head, value, offset);
      if (task.dtype == DType::kQ8_0) store_q8_0(task, head, value, offset);
    }
  }

 private:
  static L load(const float* p, std::int64_t i, std::int64_t n) {
    return i + 16 <= n ? L::load(p + i) : L::load_first(p + i, static_cast<int>(n - i));
  }
  static void store(L x, float* p, std::int64_t i, std::int64_t n) {
    if (i + 16 <= n)
      x.store(p + i);
    else
      x.store_first(p + i, static_cast<int>(n - i));
  }
  static void add_square(L& sum, L x) { sum = L::multiply_add(x, x, sum); }

  static void normalize(float* out, const float* x, const float* weight, std::int64_t n, float sum_of_squares,
                        float eps) {
    const float mean = sum_of_squares / static_cast<float>(n);
    const L scale = L::broadcast(1 / __builtin_sqrtf(mean + eps));
    for (std::int64_t i = 0; i < n; i += 16) store(load(x, i, n) * scale * load(weight, i, n), out, i, n);
  }

  static void add(float* x, const float* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += 16) store(load(x, i, n) + load(y, i, n), x, i, n);
  }

  static void norm_heads(const RopeTask& task, float* heads, int num_heads, const float* weight) {
    const int dim = task.head_dim;
    if (task.norm_joins_heads) return rms_norm(heads, heads, weight, num_heads * dim, task.norm_eps);
    for (int h = 0; h < num_heads; ++h, heads += dim) rms_norm(heads, heads, weight, dim, task.norm_eps);
  }

  static void rotate(const RopeTask& task, float* head) {
    const int half = task.rotary_dim / 2;
    for (int i = 0; i < half; i += 16) {
      const L a = load(head, i, half), b = load(head + half, i, half);
      const L cos = load(task.cos, i, half), sin = load(task.sin, i, half);
      store(a * cos - b * sin, head, i, half);
      store(b * cos + a * sin, head + half, i, half);
    }
  }

  // K: a pair of dimensions is one word, words block_size apart. V: one of each pair's halves.
  static void store_bf16(const RopeTask& task, const float* key, const float* value, std::int64_t offset) {
    const int dim = task.head_dim;
    std::byte* k = task.k + offset;
    std::byte* v = task.v + offset;
    std::byte halves[32];
    for (int first = 0; first < dim; first += 16) {
      const int count = dim - first < 16 ? dim - first : 16;
      L::load_first(key + first, count).store_bf16(halves);
      for (int i = 0; i < count; i += 2, k += task.block_size * 4) __builtin_memcpy(k, halves + 2 * i, 4);
      L::load_first(value + first, count).store_bf16(halves);
      for (int i = 0; i < count; ++i, v += 4) __builtin_memcpy(v, halves + 2 * i, 2);
    }
  }
  static void store_f32(const RopeTask& task, const float* key, const float* value, std::int64_t offset) {
    std::byte* k = task.k + offset;
    for (int i = 0; i < task.head_dim; ++i, k += task.block_size * 4) __builtin_memcpy(k, key + i, 4);
    __builtin_memcpy(task.v + offset, value, static_cast<std::size_t>(task.head_dim) * 4);
  }
  // As write_kv_row says.
  static void store_q8_0(const RopeTask& task, const float* key, const float* value, std::int64_t offset) {
    std::byte *k = task.k + offset, *k_scale = task.k_scales + offset;
    std::byte *v = task.v + offset, *v_scale = task.v_scales + offset;
    std::int8_t codes[32];
    for (int first = 0; first < task.head_dim;
         first += 32, k_scale += 2 * task.block_size, v_scale += 2, v += 32) {
      quantize_32(key + first, codes, k_scale);
      for (const std::int8_t code : codes) {
        __builtin_memcpy(k, &code, 1);
        k += task.block_size;
      }
      quantize_32(value + first, codes, v_scale);
      __builtin_memcpy(v, codes, 32);
    }
  }
  static void quantize_32(const float* x, std::int8_t* codes, std::byte* scale) {
    const L zero = L::broadcast(0), half[2] = {L::load(x), L::load(x + 16)};
    const L largest = L::max(L::max(half[0], zero - half[0]), L::max(half[1], zero - half[1]));
    const float rounded = L::store_half(largest.largest() / 127, scale);
    const L inverse = L::broadcast(rounded > 0 ? 1 / rounded : 0), most = L::broadcast(127);
    const L nearest = L::broadcast(12582912);  // 1.5 * 2^23: below it no fraction is left
    float integers[32];
    for (int i = 0; i < 2; ++i)
      L::min(L::max((half[i] * inverse + nearest) - nearest, zero - most), most).store(integers + 16 * i);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::int8_t>(integers[i]);
  }
};

}  // namespace redline::cpu
