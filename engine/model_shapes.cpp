#include "engine/model_shapes.h"

#include "engine/architecture.h"

namespace redline {
namespace {

// From the config.json of each model's repository on huggingface.co: meta-llama/Llama-3.2-1B, -3B,
// Llama-3.1-8B, -70B, -405B, Meta-Llama-3-8B, Llama-2-{7b,13b,70b}-hf, TinyLlama/TinyLlama-1.1B-Chat-v1.0,
// HuggingFaceTB/SmolLM2-{135M,360M,1.7B}-Instruct, HuggingFaceTB/SmolLM3-3B, mistralai/Mistral-7B-v0.1,
// Qwen/Qwen2.5-{0.5B,1.5B,7B}-Instruct, Qwen/Qwen3-{0.6B,8B}.
struct Shape {
  const char* name;
  int num_layers, hidden_size, num_q_heads, num_kv_heads, ffn_size, vocab_size, max_positions;
  double rope_theta;
  double llama3_factor;  // 0: plain rotary embedding
  bool tied_embeddings;
  const char* architecture = "llama";
  int head_dim = 0;  // 0: H / Hq
  int window = 0;    // of all layers
};
constexpr Shape kShapes[] = {
    {"smollm2-135m", 30, 576, 9, 3, 1536, 49152, 8192, 100000, 0, true},
    {"smollm2-360m", 32, 960, 15, 5, 2560, 49152, 8192, 100000, 0, true},
    {"smollm2-1.7b", 24, 2048, 32, 32, 8192, 49152, 8192, 130000, 0, true},
    {"tinyllama-1.1b", 22, 2048, 32, 4, 5632, 32000, 2048, 10000, 0, false},
    {"llama-3.2-1b", 16, 2048, 32, 8, 8192, 128256, 131072, 500000, 32, true},
    {"llama-3.2-3b", 28, 3072, 24, 8, 8192, 128256, 131072, 500000, 32, true},
    {"llama-3.1-8b", 32, 4096, 32, 8, 14336, 128256, 131072, 500000, 8, false},
    {"llama-3.1-70b", 80, 8192, 64, 8, 28672, 128256, 131072, 500000, 8, false},
    {"llama-3.1-405b", 126, 16384, 128, 8, 53248, 128256, 131072, 500000, 8, false},
    {"llama-3-8b", 32, 4096, 32, 8, 14336, 128256, 8192, 500000, 0, false},
    {"llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, 10000, 0, false},
    {"llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096, 10000, 0, false},
    {"llama-2-70b", 80, 8192, 64, 8, 28672, 32000, 4096, 10000, 0, false},
    {"mistral-7b-v0.1", 32, 4096, 32, 8, 14336, 32000, 32768, 10000, 0, false, "mistral", 0, 4096},
    {"qwen2.5-0.5b", 24, 896, 14, 2, 4864, 151936, 32768, 1000000, 0, true, "qwen2"},
    {"qwen2.5-1.5b", 28, 1536, 12, 2, 8960, 151936, 32768, 1000000, 0, true, "qwen2"},
    {"qwen2.5-7b", 28, 3584, 28, 4, 18944, 152064, 32768, 1000000, 0, false, "qwen2"},
    {"qwen3-0.6b", 28, 1024, 16, 8, 3072, 151936, 40960, 1000000, 0, true, "qwen3", 128},
    {"qwen3-8b", 36, 4096, 32, 8, 12288, 151936, 40960, 1000000, 0, false, "qwen3", 128},
    {"smollm3-3b", 36, 2048, 16, 4, 11008, 128256, 65536, 5000000, 0, true, "smollm3"},
};

}  // namespace

std::optional<ModelConfig> named_shape(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (name != shape.name) continue;
    ModelConfig config;
    config.name = shape.name;
    const Architecture& architecture = *find_hf_architecture(shape.architecture);
    architecture.describe(config);
    config.num_layers = shape.num_layers;
    config.hidden_size = shape.hidden_size;
    config.num_q_heads = shape.num_q_heads;
    config.num_kv_heads = shape.num_kv_heads;
    config.head_dim = shape.head_dim > 0 ? shape.head_dim : shape.hidden_size / shape.num_q_heads;
    config.rotary_dim = config.head_dim;
    if (shape.window > 0 || architecture.unrotated_period > 0)
      for (int i = 0; i < shape.num_layers; ++i)
        config.layers.push_back({.rotates = !architecture.leaves_unrotated(i), .window = shape.window});
    config.ffn_size = shape.ffn_size;
    config.vocab_size = shape.vocab_size;
    config.max_positions = shape.max_positions;
    config.rope_theta = shape.rope_theta;
    config.tied_embeddings = shape.tied_embeddings;
    if (shape.llama3_factor != 0) {
      config.rope_scaling.type = RopeType::kLlama3;
      config.rope_scaling.factor = shape.llama3_factor;
      config.rope_scaling.original_max_positions = 8192;
      config.rope_scaling.low_freq_factor = 1;
      config.rope_scaling.high_freq_factor = 4;
    }
    return config;
  }
  return std::nullopt;
}

std::string shape_names() {
  std::string names;
  for (const Shape& shape : kShapes) names += (names.empty() ? "" : ", ") + std::string(shape.name);
  return names;
}

}  // namespace redline
