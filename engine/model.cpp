#include "engine/model.h"

#include <algorithm>
#include <cmath>

namespace redline {

Model::Model(const ModelConfig& config, const ModelWeights& weights)
    : config_(config), weights_(weights), rope_(config) {}

void Model::forward(Ops& ops, const BatchView& batch, KvCache& cache, TensorView logits) {
  const Activations a = activations_for(batch.num_tokens(), batch.num_logit_rows());
  const RopeView rope = rope_.view(*std::max_element(batch.positions.begin(), batch.positions.end()) + 1);
  const auto eps = static_cast<float>(config_.rms_norm_eps);

  ops.embed(a.residual, weights_.embedding.view);
  for (std::size_t l = 0; l < weights_.layers.size(); ++l) {
    const LayerWeights& layer = weights_.layers[l];
    if (l == 0)
      ops.rms_norm(a.hidden, a.residual, layer.attn_norm.data(), eps);
    else
      ops.add_rms_norm(a.hidden, a.residual, a.delta, layer.attn_norm.data(), eps);
    attention_block(ops, layer, a, rope, cache.layer(static_cast<int>(l)));
    ops.add_rms_norm(a.hidden, a.residual, a.delta, layer.ffn_norm.data(), eps);
    ffn_block(ops, layer, a);
  }
  ops.add_rms_norm(a.hidden, a.residual, a.delta, weights_.final_norm.data(), eps);
  if (batch.num_logit_rows() == 0) return;
  const WeightView& head = weights_.head ? weights_.head->view : weights_.embedding.view;
  TensorView last = a.hidden;
  if (batch.num_logit_rows() < batch.num_tokens()) ops.gather_rows(last = a.last, a.hidden);
  ops.linear(logits, last, head, Part::kHead, RowBasis::kLogits);
}

void Model::attention_block(Ops& ops, const LayerWeights& layer, const Activations& a, const RopeView& rope,
                            const KvLayerView& kv) const {
  const int num_q_heads = static_cast<int>(config_.num_q_heads);
  std::int64_t column = 0;
  for (const PackedMatrix& part : layer.qkv) {
    ops.linear(a.qkv.slice_cols(column, part.view.rows), a.hidden, part.view, Part::kProjections);
    column += part.view.rows;
  }
  ops.rope_and_store_kv(a.qkv, num_q_heads, rope, kv);
  ops.paged_attention(a.attention, a.qkv, num_q_heads, kv,
                      1.0f / std::sqrt(static_cast<float>(config_.head_dim)));
  ops.linear(a.delta, a.attention, layer.o.view, Part::kProjections);
  ops.all_reduce(a.delta);
}

void Model::ffn_block(Ops& ops, const LayerWeights& layer, const Activations& a) const {
  if (layer.gate_up) {
    ops.linear_silu_mul(a.ffn, a.hidden, layer.gate_up->view);
  } else {
    ops.linear(a.ffn, a.hidden, layer.gate->view, Part::kFfn);
    ops.linear(a.up, a.hidden, layer.up->view, Part::kFfn);
    ops.silu_mul(a.ffn, a.ffn, a.up);
  }
  ops.linear(a.delta, a.ffn, layer.down.view, Part::kFfn);
  ops.all_reduce(a.delta);
}

std::int64_t Model::activation_bytes(const ModelConfig& c, std::int64_t num_tokens) {
  return 4 * num_tokens * (4 * c.hidden_size + c.qkv_size() + c.q_size() + 2 * c.ffn_size);
}

Model::Activations Model::activations_for(std::int64_t num_tokens, std::int64_t num_logit_rows) {
  const ModelConfig& c = config_;
  const auto needed = static_cast<std::size_t>(activation_bytes(c, num_tokens));
  if (buffer_.size() < needed) buffer_ = Buffer(needed);
  auto* next = reinterpret_cast<float*>(buffer_.data());
  const auto take = [&](std::int64_t rows, std::int64_t cols) {
    TensorView view = f32_view(next, rows, cols);
    next += num_tokens * cols;
    return view;
  };
  Activations a;
  a.residual = take(num_tokens, c.hidden_size);
  a.hidden = take(num_tokens, c.hidden_size);
  a.delta = take(num_tokens, c.hidden_size);
  a.last = take(num_logit_rows, c.hidden_size);
  a.qkv = take(num_tokens, c.qkv_size());
  a.attention = take(num_tokens, c.q_size());
  a.ffn = take(num_tokens, c.ffn_size);
  a.up = take(num_tokens, c.ffn_size);
  return a;
}

}  // namespace redline
