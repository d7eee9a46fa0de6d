#include "engine/architecture.h"

#include <algorithm>
#include <iterator>

namespace redline {
namespace {

// Where a GGUF's name stands in several rows, the first describes it.
constexpr Architecture kArchitectures[] = {
    {.model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .gguf_name = "llama",
     .gguf_interleaves_rope = true},
    {.model_type = "mistral",
     .class_name = "MistralForCausalLM",
     .gguf_name = "llama",
     .gguf_interleaves_rope = true,
     .windowed_layers = WindowedLayers::kAll,
     .sliding_window = 4096},
    {.model_type = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .gguf_name = "qwen2",
     .qkv_bias = true,
     .windowed_layers = WindowedLayers::kUpper},
    {.model_type = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .gguf_name = "qwen3",
     .qk_norm = QkNorm::kEachHead,
     .windowed_layers = WindowedLayers::kUpper,
     .head_dim = 128},
    {.model_type = "smollm3",
     .class_name = "SmolLM3ForCausalLM",
     .gguf_name = "smollm3",
     .gguf_interleaves_rope = true,
     .unrotated_period = 4,
     .windowed_layers = WindowedLayers::kUnrotated,
     .tied_embeddings = true},
    {.model_type = "phi3",
     .class_name = "Phi3ForCausalLM",
     .gguf_name = "phi3",
     .fused_projections = true,
     .partial_rotary = true,
     .windowed_layers = WindowedLayers::kAll,
     .rms_norm_eps = 1e-5},
    {.model_type = "granite",
     .class_name = "GraniteForCausalLM",
     .gguf_name = "granite",
     .gguf_interleaves_rope = true,
     .has_multipliers = true},
    {.model_type = "olmo2",
     .class_name = "Olmo2ForCausalLM",
     .gguf_name = "olmo2",
     .qk_norm = QkNorm::kJoinedHeads,
     .norm_placement = NormPlacement::kAfterBlock,
     .rms_norm_eps = 1e-5},
};

const Architecture* find(const char* Architecture::*field, std::string_view name) {
  const auto found = std::ranges::find(kArchitectures, name, field);
  return found == std::end(kArchitectures) ? nullptr : found;
}

std::string names(const char* Architecture::*field) {
  std::string names;
  for (const Architecture& each : kArchitectures)
    if (find(field, each.*field) == &each) names += (names.empty() ? "" : ", ") + std::string(each.*field);
  return names;
}

}  // namespace

void Architecture::describe(ModelConfig& config) const {
  config.architecture = model_type;
  config.qkv_bias = qkv_bias;
  config.qk_norm = qk_norm;
  config.norm_placement = norm_placement;
}

const Architecture* find_hf_architecture(std::string_view model_type) {
  return find(&Architecture::model_type, model_type);
}
const Architecture* find_gguf_architecture(std::string_view name) {
  return find(&Architecture::gguf_name, name);
}
std::string hf_architecture_names() { return names(&Architecture::model_type); }
std::string gguf_architecture_names() { return names(&Architecture::gguf_name); }

}  // namespace redline
