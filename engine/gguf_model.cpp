#include "engine/gguf_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "engine/architecture.h"
#include "engine/model_file_error.h"

namespace redline {
namespace {

constexpr const char *kLongFactors = "rope_factors_long.weight", *kShortFactors = "rope_factors_short.weight";
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;  // of any dimension: products of two stay exact

// Keys of one architecture: "llama." + name.
class ArchitectureKeys {
 public:
  ArchitectureKeys(const GgufFile& gguf, const std::string& architecture)
      : gguf_(gguf), prefix_(architecture + ".") {}

  std::int64_t size(const char* key) const {
    const auto value = find_size(key);
    if (!value) fail(key, "a value", "none");
    return *value;
  }
  std::optional<std::int64_t> find_size(const char* key) const {
    const auto value = gguf_.find_int(prefix_ + key);
    if (value && (*value < 1 || *value > kMaxSize)) fail(key, "1 to 2^24", std::to_string(*value));
    return value;
  }
  double positive(const char* key, double absent) const {
    const double value = gguf_.find_float(prefix_ + key).value_or(absent);
    if (!(value > 0) || !std::isfinite(value)) fail(key, "a positive number", std::to_string(value));
    return value;
  }
  std::optional<std::string> find_string(const char* key) const { return gguf_.find_string(prefix_ + key); }
  [[noreturn]] void fail(const char* key, const std::string& expected, const std::string& found) const {
    gguf_.fail_key(prefix_ + key, expected, found);
  }

 private:
  const GgufFile& gguf_;
  std::string prefix_;
};

// A key whose value is above 0, or that stands for nothing: absent, or 0.
double multiplier(const GgufFile& gguf, const std::string& key, double absent) {
  const double value = gguf.find_float(key).value_or(0);
  if (value < 0 || !std::isfinite(value)) gguf.fail_key(key, "a positive number", std::to_string(value));
  return value > 0 ? value : absent;
}

std::vector<float> frequency_divisors(const FileTensor& tensor, std::int64_t count) {
  const ModelFileError::Where where{tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()};
  if (tensor.dtype != DType::kF32 || tensor.elements() != count)
    throw ModelFileError(where, "f32 [" + std::to_string(count) + "]",
                         std::string(name(tensor.dtype)) + " " + shape_text(tensor.shape));
  std::vector<float> divisors(static_cast<std::size_t>(count));
  std::memcpy(divisors.data(), tensor.data.data(), tensor.data.size());
  for (const float divisor : divisors)
    if (!(divisor > 0) || !std::isfinite(divisor))
      throw ModelFileError(where, "positive numbers", std::to_string(divisor));
  return divisors;
}

RopeScaling rope_scaling(const GgufFile& gguf, const ArchitectureKeys& keys, const ModelConfig& config) {
  RopeScaling scaling;
  const auto type = keys.find_string("rope.scaling.type").value_or("none");
  if (type == "linear") {
    scaling.type = RopeType::kLinear;
  } else if (type == "yarn") {
    scaling.type = RopeType::kYarn;
    scaling.original_max_positions =
        keys.find_size("rope.scaling.original_context_length").value_or(config.max_positions);
    scaling.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", scaling.beta_fast);
    scaling.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", scaling.beta_slow);
  } else if (type == "longrope" && gguf.find_tensor(kLongFactors)) {
    // The factors themselves say so, with or without this key.
  } else if (type != "none") {
    keys.fail("rope.scaling.type", "none, linear or yarn", printable(type));
  }
  if (scaling.type != RopeType::kPlain) scaling.factor = keys.positive("rope.scaling.factor", 1.0);
  // The file's factor comes on top of what YaRN asks for.
  if (scaling.type == RopeType::kYarn)
    scaling.attention_factor = keys.positive("rope.scaling.attn_factor", 1.0) *
                               (1.0 + 0.1 * std::log(std::max(scaling.factor, 1.0)));
  if (const FileTensor* divisors = gguf.find_tensor("rope_freqs.weight"))
    scaling.frequency_divisors = frequency_divisors(*divisors, config.rotary_dim / 2);
  if (const FileTensor* longer = gguf.find_tensor(kLongFactors)) {
    scaling.type = RopeType::kLongRope;
    scaling.original_max_positions =
        keys.find_size("rope.scaling.original_context_length").value_or(config.max_positions);
    scaling.attention_factor = keys.positive("rope.scaling.attn_factor", 1.0);
    scaling.long_divisors = frequency_divisors(*longer, config.rotary_dim / 2);
    const FileTensor* shorter = gguf.find_tensor(kShortFactors);
    if (!shorter)
      throw ModelFileError({gguf.file().path(), "tensor " + printable(kShortFactors)}, "a tensor", "none");
    scaling.short_divisors = frequency_divisors(*shorter, config.rotary_dim / 2);
  }
  return scaling;
}

// Which layers rotate, and what their queries see.
void read_layers(const GgufFile& gguf, const ArchitectureKeys& keys, const Architecture& row,
                 ModelConfig& config) {
  const std::string window_key = std::string(row.gguf_name) + ".attention.sliding_window";
  const std::int64_t window = gguf.find_int(window_key).value_or(0);
  const bool may_slide = row.windowed_layers == WindowedLayers::kAll || row.gguf_name == std::string("llama");
  if (window < 0 || window > kMaxSize || (window > 0 && !may_slide))
    keys.fail("attention.sliding_window", may_slide ? "0 to 2^24" : "none", std::to_string(window));
  if (window == 0 && row.unrotated_period == 0) return;
  constexpr std::int64_t kMaxLayers = 1 << 16;  // what follows takes memory before any tensor proves them
  if (config.num_layers > kMaxLayers)
    keys.fail("block_count", "at most " + std::to_string(kMaxLayers) + " layers",
              std::to_string(config.num_layers));
  for (std::int64_t i = 0; i < config.num_layers; ++i)
    config.layers.push_back({.rotates = !row.leaves_unrotated(i), .window = window});
}

void read_multipliers(const GgufFile& gguf, const Architecture& row, ModelConfig& config) {
  const struct {
    const char* key;
    double& value;
  } multipliers[] = {{"embedding_scale", config.embedding_multiplier},
                     {"residual_scale", config.residual_multiplier},
                     {"attention.scale", config.attention_multiplier},
                     {"logit_scale", config.logits_divisor}};
  for (const auto& each : multipliers) {
    const std::string key = std::string(row.gguf_name) + "." + each.key;
    const double value = multiplier(gguf, key, each.value);
    if (!row.has_multipliers && value != each.value) gguf.fail_key(key, "none", std::to_string(value));
    each.value = value;
  }
}

}  // namespace

ModelConfig gguf_model_config(const GgufFile& gguf) {
  ModelConfig config;
  const auto name = gguf.find_string("general.architecture").value_or("");
  const Architecture* architecture = find_gguf_architecture(name);
  if (!architecture)
    gguf.fail_key("general.architecture", "one of " + gguf_architecture_names(),
                  name.empty() ? "nothing" : printable(name));
  architecture->describe(config);
  const ArchitectureKeys keys(gguf, name);
  if (const auto experts = gguf.find_int(name + ".expert_count"); experts.value_or(0) != 0)
    keys.fail("expert_count", "no experts", std::to_string(*experts));
  config.num_layers = keys.size("block_count");
  config.hidden_size = keys.size("embedding_length");
  config.num_q_heads = keys.size("attention.head_count");
  config.num_kv_heads = keys.find_size("attention.head_count_kv").value_or(config.num_q_heads);
  if (config.num_q_heads % config.num_kv_heads != 0)
    keys.fail("attention.head_count_kv", "a divisor of " + std::to_string(config.num_q_heads) + " heads",
              std::to_string(config.num_kv_heads));
  const auto head_dim = keys.find_size("attention.key_length");
  if (!head_dim && config.hidden_size % config.num_q_heads != 0)
    keys.fail("attention.head_count", "a divisor of the hidden size " + std::to_string(config.hidden_size),
              std::to_string(config.num_q_heads));
  config.head_dim = head_dim.value_or(config.hidden_size / config.num_q_heads);
  if (config.head_dim % 2 != 0)
    keys.fail(head_dim ? "attention.key_length" : "attention.head_count", "an even head dimension",
              std::to_string(config.head_dim));
  const auto require_head_dim = [&](const char* key) {
    if (const auto value = keys.find_size(key).value_or(config.head_dim); value != config.head_dim)
      keys.fail(key, "the head dimension " + std::to_string(config.head_dim), std::to_string(value));
  };
  require_head_dim("attention.value_length");
  config.rotary_dim = keys.find_size("rope.dimension_count").value_or(config.head_dim);
  if (config.rotary_dim != config.head_dim &&
      (!architecture->partial_rotary || config.rotary_dim > config.head_dim || config.rotary_dim % 2 != 0))
    keys.fail("rope.dimension_count",
              architecture->partial_rotary
                  ? "an even part of " + std::to_string(config.head_dim) + " dimensions"
                  : "the head dimension " + std::to_string(config.head_dim),
              std::to_string(config.rotary_dim));
  config.ffn_size = keys.size("feed_forward_length");
  config.max_positions = keys.size("context_length");
  config.rms_norm_eps = keys.positive("attention.layer_norm_rms_epsilon", 1e-5);
  config.rope_theta = keys.positive("rope.freq_base", 10000.0);
  config.rope_scaling = rope_scaling(gguf, keys, config);
  read_layers(gguf, keys, *architecture, config);
  read_multipliers(gguf, *architecture, config);
  config.tied_embeddings = gguf.find_tensor("output.weight") == nullptr;
  if (const FileTensor* embedding = gguf.find_tensor("token_embd.weight"))
    config.vocab_size = embedding->shape.front();
  if (const auto vocab_size = keys.find_size("vocab_size"); vocab_size && *vocab_size != config.vocab_size)
    keys.fail("vocab_size", "the embedding's " + std::to_string(config.vocab_size) + " rows",
              std::to_string(*vocab_size));
  return config;
}

}  // namespace redline
