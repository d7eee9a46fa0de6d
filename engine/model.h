// The transformer: forty lines of forward that read as the architectures.
#pragma once

#include "engine/model_config.h"
#include "engine/rope.h"
#include "engine/weights.h"
#include "kernels/ops.h"
#include "kvcache/kv_cache.h"

namespace redline {

/// One model on one backend. Holds the activations of a step: not thread-safe.
class Model {
 public:
  /// `weights` outlives the model and was packed by the Ops that forward will be given. `max_context`: of the
  /// sequences that will run, which longrope asks; 0: the model's own.
  Model(const ModelConfig& config, const ModelWeights& weights, std::int64_t max_context = 0);

  /// Computes the batch's tokens, writing their K and V to `cache`, and logits [R, V] of its logit rows. The
  /// caller has called ops.begin_step(batch).
  void forward(Ops& ops, const BatchView& batch, KvCache& cache, TensorView logits);

  /// Takes the memory for steps of up to `num_tokens` tokens and sequences of up to `num_positions`, so that
  /// no later step allocates, and a device's addresses stay.
  void reserve(Ops& ops, std::int64_t num_tokens, std::int64_t num_positions);
  /// Bytes of activations that a step of T tokens needs, logits left out; all but the residual stream are of
  /// type `dtype`, and each array starts at a multiple of 256 bytes.
  static std::int64_t activation_bytes(const ModelConfig& config, std::int64_t num_tokens,
                                       DType dtype = DType::kF32);

 private:
  struct Activations {
    TensorView residual, hidden, qkv, attention, ffn, up, delta, last;
  };
  Activations activations_for(Ops& ops, std::int64_t num_tokens, std::int64_t num_logit_rows);
  RopeView rope_for(Ops& ops, std::int64_t num_positions);
  void attention_block(Ops& ops, int index, const Activations& a, const RopeView& rope,
                       const KvLayerView& kv) const;
  void ffn_block(Ops& ops, const LayerWeights& layer, const Activations& a) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  RopeTable rope_;
  float embedding_scale_, norm_eps_, score_scale_;
  Buffer device_rope_;  // a device's copy of the table
  std::int64_t num_device_positions_ = 0;
  Buffer buffer_;
};

}  // namespace redline
