#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "kernels/nvtx.h"

namespace redline {
namespace {

// Arrays start where the widest accesses are aligned.
constexpr std::int64_t kAlignment = 256;

constexpr std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// A layer's range for profilers, where such are wanted.
class LayerRange {
 public:
  explicit LayerRange(int layer) {
    if (wants_nvtx_layers()) range_.emplace(("layer " + std::to_string(layer)).c_str());
  }

 private:
  std::optional<NvtxRange> range_;
};

}  // namespace

// A residual multiplier m is folded into what it multiplies into: the stream holds 1 / m of what the model's
// definition says, which its norms undo once eps shrinks alike. Blocks then join it as they are.
Model::Model(const ModelConfig& config, const ModelWeights& weights, std::int64_t max_context)
    : config_(config),
      weights_(weights),
      rope_(config, max_context),
      embedding_scale_(static_cast<float>(config.embedding_multiplier / config.residual_multiplier)),
      norm_eps_(static_cast<float>(config.rms_norm_eps /
                                   (config.residual_multiplier * config.residual_multiplier))),
      score_scale_(config.attention_multiplier > 0 ? static_cast<float>(config.attention_multiplier)
                                                   : 1.0f / std::sqrt(static_cast<float>(config.head_dim))) {}

void Model::forward(Ops& ops, const BatchView& batch, KvCache& cache, TensorView logits) {
  const Activations a = activations_for(ops, batch.num_tokens(), batch.num_logit_rows());
  const RopeView rope = rope_for(ops, *std::max_element(batch.positions.begin(), batch.positions.end()) + 1);
  const bool norms_first = config_.norm_placement == NormPlacement::kBeforeBlock;
  const float eps = norm_eps_;

  ops.embed(a.residual, weights_.embedding.view, embedding_scale_);
  if (!norms_first) ops.copy(a.hidden, a.residual);
  for (int l = 0; l < static_cast<int>(config_.num_layers); ++l) {
    const LayerRange range(l);
    const LayerWeights& layer = weights_.layers[static_cast<std::size_t>(l)];
    if (norms_first && l == 0) ops.rms_norm(a.hidden, a.residual, layer.attn_norm.data(), eps);
    if (norms_first && l > 0) ops.add_rms_norm(a.hidden, a.residual, a.delta, layer.attn_norm.data(), eps);
    attention_block(ops, l, a, rope, cache.layer(l));
    if (norms_first)
      ops.add_rms_norm(a.hidden, a.residual, a.delta, layer.ffn_norm.data(), eps);
    else
      ops.rms_norm_add(a.hidden, a.residual, a.delta, layer.attn_norm.data(), eps);
    ffn_block(ops, layer, a);
    if (!norms_first) ops.rms_norm_add(a.hidden, a.residual, a.delta, layer.ffn_norm.data(), eps);
  }
  if (norms_first)
    ops.add_rms_norm(a.hidden, a.residual, a.delta, weights_.final_norm.data(), eps);
  else
    ops.rms_norm(a.hidden, a.residual, weights_.final_norm.data(), eps);
  if (batch.num_logit_rows() == 0) return;
  const WeightView& head = weights_.head ? weights_.head->view : weights_.embedding.view;
  TensorView last = a.hidden;
  if (batch.num_logit_rows() < batch.num_tokens()) ops.gather_rows(last = a.last, a.hidden);
  ops.linear(logits, last, head, Part::kHead, RowBasis::kLogits);
}

void Model::attention_block(Ops& ops, int index, const Activations& a, const RopeView& rope,
                            const KvLayerView& kv) const {
  const LayerWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
  const LayerConfig layer_config = config_.layer(index);
  const int num_q_heads = static_cast<int>(config_.num_q_heads);
  std::int64_t column = 0;
  for (const PackedMatrix& part : layer.qkv) {
    ops.linear(a.qkv.slice_cols(column, part.view.rows), a.hidden, part.view, Part::kProjections);
    column += part.view.rows;
  }
  QkvTransform transform{.rope = rope,
                         .bias = layer.qkv_bias.data(),
                         .q_norm = layer.q_norm.data(),
                         .k_norm = layer.k_norm.data(),
                         .norm_joins_heads = config_.qk_norm == QkNorm::kJoinedHeads,
                         .norm_eps = static_cast<float>(config_.rms_norm_eps)};
  if (!layer_config.rotates) transform.rope.rotary_dim = 0;
  ops.rope_and_store_kv(a.qkv, num_q_heads, transform, kv);
  ops.paged_attention(a.attention, a.qkv, num_q_heads, kv, score_scale_,
                      static_cast<int>(layer_config.window));
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

void Model::reserve(Ops& ops, std::int64_t num_tokens, std::int64_t num_positions) {
  activations_for(ops, num_tokens, num_tokens);
  if (!ops.uses_host_memory()) rope_for(ops, num_positions);
}

RopeView Model::rope_for(Ops& ops, std::int64_t num_positions) {
  RopeView view = rope_.view(num_positions);
  if (ops.uses_host_memory()) return view;
  if (num_positions > num_device_positions_) {
    num_device_positions_ = std::max(num_positions, 2 * num_device_positions_);
    view = rope_.view(num_device_positions_);
    const auto bytes = static_cast<std::size_t>(num_device_positions_ * view.rotary_dim / 2) * sizeof(float);
    device_rope_ = ops.allocate(2 * bytes);
    ops.upload(device_rope_.data(), view.cos, bytes);
    ops.upload(device_rope_.data() + bytes, view.sin, bytes);
  }
  view.cos = reinterpret_cast<const float*>(device_rope_.data());
  view.sin = view.cos + num_device_positions_ * view.rotary_dim / 2;
  view.num_positions = num_positions;
  return view;
}

std::int64_t Model::activation_bytes(const ModelConfig& c, std::int64_t num_tokens, DType dtype) {
  std::int64_t bytes = aligned(num_tokens * row_bytes(DType::kF32, c.hidden_size));
  for (const std::int64_t cols :
       {c.hidden_size, c.hidden_size, c.hidden_size, c.qkv_size(), c.q_size(), c.ffn_size, c.ffn_size})
    bytes += aligned(num_tokens * row_bytes(dtype, cols));
  return bytes;
}

Model::Activations Model::activations_for(Ops& ops, std::int64_t num_tokens, std::int64_t num_logit_rows) {
  const ModelConfig& c = config_;
  const DType dtype = ops.activation_dtype();
  // Where a device pads a step's rows, every step of one padded size finds its arrays at the same places.
  const std::int64_t num_rows = ops.padded_rows(num_tokens);
  const auto needed = static_cast<std::size_t>(activation_bytes(c, num_rows, dtype));
  if (buffer_.size() < needed) buffer_ = ops.allocate(needed);
  std::byte* next = buffer_.data();
  const auto take = [&](DType type, std::int64_t rows, std::int64_t cols) {
    TensorView view{next, type, rows, cols, cols};
    next += aligned(num_rows * row_bytes(type, cols));
    return view;
  };
  Activations a;
  a.residual = take(DType::kF32, num_tokens, c.hidden_size);
  a.hidden = take(dtype, num_tokens, c.hidden_size);
  a.delta = take(dtype, num_tokens, c.hidden_size);
  a.last = take(dtype, num_logit_rows, c.hidden_size);
  a.qkv = take(dtype, num_tokens, c.qkv_size());
  a.attention = take(dtype, num_tokens, c.q_size());
  a.ffn = take(dtype, num_tokens, c.ffn_size);
  a.up = take(dtype, num_tokens, c.ffn_size);
  return a;
}

}  // namespace redline
