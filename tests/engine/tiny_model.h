// Small models with random weights, for tests of what surrounds them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/weights.h"

namespace redline {

/// Two layers, 3 query heads on 1, an odd vocabulary.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.name = "tiny";
  config.architecture = "llama";
  config.num_layers = 2;
  config.hidden_size = 96;
  config.num_q_heads = 3;
  config.num_kv_heads = 1;
  config.head_dim = 32;
  config.rotary_dim = 32;
  config.ffn_size = 160;
  config.vocab_size = 211;
  config.max_positions = 2048;
  config.tied_embeddings = true;
  return config;
}

inline std::shared_ptr<LoadedModel> tiny_model(DType dtype = DType::kQ8_0, int threads = 2,
                                               const ModelConfig& config = tiny_config()) {
  auto model = std::make_shared<LoadedModel>();
  model->config = config;
  model->ops = make_cpu_ops({.threads = threads, .isa = {}});
  model->weights = std::make_unique<ModelWeights>(random_weights(config, dtype, *model->ops, 7));
  return model;
}

/// `count` tokens below `vocab_size`, a function of `seed`.
inline std::vector<std::int32_t> random_tokens(std::size_t count, std::uint32_t seed,
                                               std::int64_t vocab_size) {
  std::vector<std::int32_t> tokens;
  std::uint64_t state = seed * 2654435761u + 1;
  for (std::size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<std::int32_t>((state >> 33) % static_cast<std::uint64_t>(vocab_size)));
  }
  return tokens;
}

}  // namespace redline
