// Every operation as its formula, in double precision: the oracle of every test. The scalar is a template
// parameter so that a counting type can prove the ledger: each multiply-add of a matrix product or of
// attention is one call of fma.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/kv_row.h"
#include "kernels/ops.h"

namespace redline {

/// `Scalar` constructs from double, converts explicitly to float, and has + - * /, <, fma, exp and sqrt.
/// Weights keep their own type, one row after the other; of a gate-up matrix rows alternate gate, up. Every
/// result is rounded to f32 (to the cache's type in rope_and_store_kv) once, when it is stored.
template <class Scalar>
class BasicReferenceOps final : public Ops {
 public:
  std::string name() const override { return "reference"; }
  ComputeType compute_type(OpKind, DType) const override { return ComputeType::kF64; }

  std::int64_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const override {
    return rows * row_bytes(dtype, cols);
  }
  PackedMatrix pack(const MatrixSource& source) override {
    PackedMatrix matrix = new_matrix(source.dtype, source.rows, source.cols);
    for (std::int64_t i = 0; i < source.rows; ++i) copy_row(matrix, i, source.row(i));
    return matrix;
  }
  PackedMatrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up) override {
    REDLINE_CHECK(gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols,
                  "gate and up are of one type and shape");
    PackedMatrix matrix = new_matrix(gate.dtype, 2 * gate.rows, gate.cols);
    matrix.view.gate_up = true;
    for (std::int64_t i = 0; i < gate.rows; ++i) {
      copy_row(matrix, 2 * i, gate.row(i));
      copy_row(matrix, 2 * i + 1, up.row(i));
    }
    return matrix;
  }
  void unpack_row(const WeightView& weight, std::int64_t row, float* out) const override {
    REDLINE_CHECK(row >= 0 && row < weight.rows, "a row of the matrix");
    dequantize_row(weight.dtype, weight.data + row * row_bytes(weight.dtype, weight.cols), weight.cols, out);
  }

 private:
  static Scalar silu(Scalar x) {
    using std::exp;
    return x / (Scalar(1) + exp(Scalar(0) - x));
  }

  static PackedMatrix new_matrix(DType dtype, std::int64_t rows, std::int64_t cols) {
    REDLINE_CHECK(cols % traits(dtype).block_elements == 0, "a row holds whole blocks");
    PackedMatrix matrix;
    const std::int64_t bytes = rows * row_bytes(dtype, cols);
    matrix.storage = Buffer(static_cast<std::size_t>(bytes));
    matrix.view = {matrix.storage.data(), dtype, rows, cols, 1, bytes, bytes, false};
    return matrix;
  }
  static void copy_row(PackedMatrix& matrix, std::int64_t row, const std::byte* from) {
    const std::int64_t bytes = row_bytes(matrix.view.dtype, matrix.view.cols);
    std::memcpy(matrix.storage.data() + row * bytes, from, static_cast<std::size_t>(bytes));
  }

  static Scalar dot(const float* a, const float* b, std::int64_t n) {
    using std::fma;
    Scalar sum(0);
    for (std::int64_t i = 0; i < n; ++i) sum = fma(Scalar(a[i]), Scalar(b[i]), sum);
    return sum;
  }

  void do_embed(TensorView out, const WeightView& table, float scale) override {
    for (std::int64_t t = 0; t < out.rows; ++t) {
      unpack_row(table, batch().token_ids[static_cast<std::size_t>(t)], out.f32(t));
      for (std::int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] *= scale;
    }
  }

  void do_copy(TensorView out, TensorView x) override {
    for (std::int64_t t = 0; t < x.rows; ++t) std::copy(x.f32(t), x.f32(t) + x.cols, out.f32(t));
  }

  static void norm(float* out, const float* x, const float* weight, std::int64_t n, float eps) {
    using std::sqrt;
    Scalar sum(0);
    for (std::int64_t i = 0; i < n; ++i) sum = sum + Scalar(x[i]) * Scalar(x[i]);
    const Scalar rms = sqrt(sum / Scalar(static_cast<double>(n)) + Scalar(eps));
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(Scalar(x[i]) / rms * Scalar(weight[i]));
  }

  void do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) override {
    for (std::int64_t t = 0; t < x.rows; ++t) norm(out.f32(t), x.f32(t), weight, x.cols, eps);
  }

  void do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) override {
    for (std::int64_t t = 0; t < out.rows; ++t)
      for (std::int64_t i = 0; i < out.cols; ++i) residual.f32(t)[i] += delta.f32(t)[i];
    do_rms_norm(out, residual, weight, eps);
  }

  void do_rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) override {
    std::vector<float> normed(static_cast<std::size_t>(out.cols));
    for (std::int64_t t = 0; t < out.rows; ++t) {
      norm(normed.data(), delta.f32(t), weight, out.cols, eps);
      for (std::int64_t i = 0; i < out.cols; ++i)
        out.f32(t)[i] = residual.f32(t)[i] += normed[static_cast<std::size_t>(i)];
    }
  }

  void do_linear(TensorView out, TensorView x, const WeightView& weight) override {
    std::vector<float> row(static_cast<std::size_t>(weight.cols));
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      unpack_row(weight, n, row.data());
      for (std::int64_t t = 0; t < x.rows; ++t)
        out.f32(t)[n] = static_cast<float>(dot(x.f32(t), row.data(), weight.cols));
    }
  }

  void do_linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) override {
    std::vector<float> gate(static_cast<std::size_t>(x.cols)), up(gate.size());
    for (std::int64_t n = 0; n < out.cols; ++n) {
      unpack_row(gate_up, 2 * n, gate.data());
      unpack_row(gate_up, 2 * n + 1, up.data());
      for (std::int64_t t = 0; t < x.rows; ++t)
        out.f32(t)[n] =
            static_cast<float>(silu(dot(x.f32(t), gate.data(), x.cols)) * dot(x.f32(t), up.data(), x.cols));
    }
  }

  void do_silu_mul(TensorView out, TensorView gate, TensorView up) override {
    for (std::int64_t t = 0; t < out.rows; ++t)
      for (std::int64_t i = 0; i < out.cols; ++i)
        out.f32(t)[i] = static_cast<float>(silu(Scalar(gate.f32(t)[i])) * Scalar(up.f32(t)[i]));
  }

  // Rotates one head into `out`, which may be `head`.
  void rotate(const float* head, int head_dim, std::int64_t position, const RopeView& rope, float* out) {
    REDLINE_CHECK(position >= 0 && position < rope.num_positions, "the rope table covers every position");
    const int half = rope.rotary_dim / 2;
    for (int i = 0; i < half; ++i) {
      const Scalar a(head[i]), b(head[i + half]);
      const Scalar cos(rope.cos[position * half + i]), sin(rope.sin[position * half + i]);
      out[i] = static_cast<float>(a * cos - b * sin);
      out[i + half] = static_cast<float>(b * cos + a * sin);
    }
    std::copy(head + rope.rotary_dim, head + head_dim, out + rope.rotary_dim);
  }

  // `num_heads` heads of `head_dim`, each by itself or as one vector.
  static void norm_heads(float* heads, int num_heads, int head_dim, const float* weight,
                         const QkvTransform& transform) {
    if (transform.norm_joins_heads)
      return norm(heads, heads, weight, num_heads * head_dim, transform.norm_eps);
    for (int h = 0; h < num_heads; ++h, heads += head_dim)
      norm(heads, heads, weight, head_dim, transform.norm_eps);
  }

  void do_rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                            const KvLayerView& kv) override {
    const int d = kv.head_dim;
    std::vector<float> rotated(static_cast<std::size_t>(d));
    for (std::int64_t t = 0; t < qkv.rows; ++t) {
      const std::int64_t position = batch().positions[static_cast<std::size_t>(t)];
      const std::int64_t slot = batch().slots[static_cast<std::size_t>(t)];
      REDLINE_CHECK(slot >= 0 && slot < kv.num_blocks * kv.block_size, "a slot of the cache");
      const std::int64_t block = slot / kv.block_size;
      const int offset = static_cast<int>(slot % kv.block_size);
      float* q = qkv.f32(t);
      if (transform.bias)
        for (std::int64_t i = 0; i < qkv.cols; ++i) q[i] += transform.bias[i];
      if (transform.q_norm) {
        norm_heads(q, num_q_heads, d, transform.q_norm, transform);
        norm_heads(q + num_q_heads * d, kv.num_kv_heads, d, transform.k_norm, transform);
      }
      for (int h = 0; h < num_q_heads; ++h) rotate(q + h * d, d, position, transform.rope, q + h * d);
      for (int h = 0; h < kv.num_kv_heads; ++h) {
        const float* k = q + (num_q_heads + h) * d;
        const float* v = k + kv.num_kv_heads * d;
        rotate(k, d, position, transform.rope, rotated.data());
        write_kv_row(kv, KvSide::kKey, kv.k_tile(block, h), offset, rotated.data());
        write_kv_row(kv, KvSide::kValue, kv.v_tile(block, h), offset, v);
      }
    }
  }

  // One query row over the keys at positions [first_key, num_keys) of `sequence`.
  void attend(const float* q, const SequenceWork& sequence, int first_key, int num_keys, int kv_head,
              const KvLayerView& kv, float scale, float* out) {
    using std::exp, std::fma;
    const auto block_of = [&](int key) -> std::int64_t {
      return batch().block_tables[static_cast<std::size_t>(sequence.table_start + key / kv.block_size)];
    };
    std::vector<Scalar> scores(static_cast<std::size_t>(num_keys), Scalar(0));
    Scalar max(-std::numeric_limits<double>::infinity());
    for (int key = first_key; key < num_keys; ++key) {
      const std::byte* k = kv.k_tile(block_of(key), kv_head);
      Scalar& score = scores[static_cast<std::size_t>(key)];
      for (int i = 0; i < kv.head_dim; ++i)
        score = fma(Scalar(q[i]), Scalar(read_kv(kv, KvSide::kKey, k, key % kv.block_size, i)), score);
      score = score * Scalar(scale);
      max = std::max(max, score);
    }
    std::vector<Scalar> sum(static_cast<std::size_t>(kv.head_dim), Scalar(0));
    Scalar weights(0);
    for (int key = first_key; key < num_keys; ++key) {
      const std::byte* v = kv.v_tile(block_of(key), kv_head);
      const Scalar weight = exp(scores[static_cast<std::size_t>(key)] - max);
      weights = weights + weight;
      for (int i = 0; i < kv.head_dim; ++i) {
        Scalar& element = sum[static_cast<std::size_t>(i)];
        element = fma(weight, Scalar(read_kv(kv, KvSide::kValue, v, key % kv.block_size, i)), element);
      }
    }
    for (int i = 0; i < kv.head_dim; ++i)
      out[i] = static_cast<float>(sum[static_cast<std::size_t>(i)] / weights);
  }

  void do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv, float scale,
                          int window) override {
    const int d = kv.head_dim, group = num_q_heads / kv.num_kv_heads;
    for (const SequenceWork& s : batch().sequences)
      for (int i = 0; i < s.num_new; ++i) {
        const int num_keys = s.num_cached + i + 1;
        const int first_key = window > 0 ? std::max(0, num_keys - window) : 0;
        for (int h = 0; h < num_q_heads; ++h)
          attend(qkv.f32(s.query_start + i) + h * d, s, first_key, num_keys, h / group, kv, scale,
                 out.f32(s.query_start + i) + h * d);
      }
  }

  void do_gather_rows(TensorView out, TensorView x) override {
    for (std::int64_t r = 0; r < out.rows; ++r) {
      const float* row = x.f32(batch().logit_rows[static_cast<std::size_t>(r)]);
      std::copy(row, row + x.cols, out.f32(r));
    }
  }

  void do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) override {
    for (const KvLayerView& kv : layers)
      for (const BlockCopy& copy : copies)
        std::memcpy(kv.k_tile(copy.target, 0), kv.k_tile(copy.source, 0),
                    static_cast<std::size_t>(kv.block_bytes()));
  }
};

}  // namespace redline
