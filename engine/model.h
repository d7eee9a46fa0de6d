// The transformer: forty lines of forward that read as the architecture.
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
  /// `weights` outlives the model and was packed by the Ops that forward will be given.
  Model(const ModelConfig& config, const ModelWeights& weights);

  /// Computes the batch's tokens, writing their K and V to `cache`, and logits [R, V] of its logit rows. The
  /// caller has called ops.begin_step(batch).
  void forward(Ops& ops, const BatchView& batch, KvCache& cache, TensorView logits);

  /// Bytes of activations that a step of T tokens needs, logits left out.
  static std::int64_t activation_bytes(const ModelConfig& config, std::int64_t num_tokens);

 private:
  struct Activations {
    TensorView residual, hidden, qkv, attention, ffn, up, delta, last;
  };
  Activations activations_for(std::int64_t num_tokens, std::int64_t num_logit_rows);
  void attention_block(Ops& ops, const LayerWeights& layer, const Activations& a, const RopeView& rope,
                       const KvLayerView& kv) const;
  void ffn_block(Ops& ops, const LayerWeights& layer, const Activations& a) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  RopeTable rope_;
  Buffer buffer_;
};

}  // namespace redline
