#include "engine/tensor_role.h"

namespace redline {

bool has_tensor(TensorRole role, const ModelConfig& config) {
  switch (role) {
    case TensorRole::kHead:
      return !config.tied_embeddings;
    case TensorRole::kQBias:
    case TensorRole::kKBias:
    case TensorRole::kVBias:
      return config.qkv_bias;
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
      return config.qk_norm != QkNorm::kNone;
    default:
      return true;
  }
}

std::vector<std::int64_t> tensor_shape(TensorRole role, const ModelConfig& config) {
  switch (role) {
    case TensorRole::kEmbedding:
    case TensorRole::kHead:
      return {config.vocab_size, config.hidden_size};
    case TensorRole::kFinalNorm:
    case TensorRole::kAttnNorm:
    case TensorRole::kFfnNorm:
      return {config.hidden_size};
    case TensorRole::kQ:
      return {config.q_size(), config.hidden_size};
    case TensorRole::kK:
    case TensorRole::kV:
      return {config.kv_size(), config.hidden_size};
    case TensorRole::kQBias:
      return {config.q_size()};
    case TensorRole::kKBias:
    case TensorRole::kVBias:
      return {config.kv_size()};
    case TensorRole::kQNorm:
      return {config.qk_norm == QkNorm::kJoinedHeads ? config.q_size() : config.head_dim};
    case TensorRole::kKNorm:
      return {config.qk_norm == QkNorm::kJoinedHeads ? config.kv_size() : config.head_dim};
    case TensorRole::kO:
      return {config.hidden_size, config.q_size()};
    case TensorRole::kGate:
    case TensorRole::kUp:
      return {config.ffn_size, config.hidden_size};
    case TensorRole::kDown:
      return {config.hidden_size, config.ffn_size};
  }
  return {};
}

}  // namespace redline
