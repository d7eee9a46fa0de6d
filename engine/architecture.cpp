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
    {.model_type = "qwen2", .class_name = "Qwen2ForCausalLM", .gguf_name = "qwen2", .qkv_bias = true},
    {.model_type = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .gguf_name = "qwen3",
     .head_dim = 128,
     .qk_norm = QkNorm::kEachHead},
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
