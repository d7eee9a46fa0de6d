#include "engine/tensor_role.h"

namespace redline {

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
