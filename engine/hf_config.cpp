#include "engine/hf_config.h"

#include <cmath>

#include "engine/architecture.h"
#include "engine/json_file.h"

namespace redline {
namespace {

void require(const JsonFile& json, const char* key, const std::string& value) {
  if (json.find_string(key).value_or(value) != value) json.fail(key, '"' + value + '"');
}

const Architecture& architecture(const JsonFile& json) {
  const auto* found = find_hf_architecture(json.find_string("model_type").value_or(""));
  if (!found) json.fail("model_type", "one of " + hf_architecture_names());
  if (json.has("architectures") &&
      json.object()["architectures"] != nlohmann::json::array({found->class_name}))
    json.fail("architectures", "[\"" + std::string(found->class_name) + "\"]");
  return *found;
}

void refuse_unsupported(const JsonFile& json) {
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window"})
    if (json.find_bool(key).value_or(false)) json.fail(key, "false");
  if (json.has("quantization_config")) json.fail("quantization_config", "none");
  require(json, "hidden_act", "silu");
}

double yarn_attention_factor(const JsonFile& rope, double factor) {
  if (const auto given = rope.find_positive("attention_factor")) return *given;
  const auto scale = [factor](double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  if (rope.has("mscale") && rope.has("mscale_all_dim"))
    return scale(rope.positive("mscale")) / scale(rope.positive("mscale_all_dim"));
  return scale(1.0);
}

// `rope`: config.json's rope_scaling, or rope_parameters as transformers 5 writes them.
RopeScaling rope_scaling(const JsonFile& rope, std::int64_t max_positions) {
  RopeScaling scaling;
  const char* type_key = rope.has("rope_type") ? "rope_type" : "type";
  const auto type = rope.find_string(type_key).value_or("default");
  if (type == "default") return scaling;
  scaling.factor = rope.positive("factor");
  if (type == "linear") {
    scaling.type = RopeType::kLinear;
  } else if (type == "llama3") {
    scaling.type = RopeType::kLlama3;
    scaling.original_max_positions = rope.size("original_max_position_embeddings");
    scaling.low_freq_factor = rope.positive("low_freq_factor");
    scaling.high_freq_factor = rope.positive("high_freq_factor");
    if (scaling.high_freq_factor <= scaling.low_freq_factor)
      rope.fail("high_freq_factor", "more than low_freq_factor, " + std::to_string(scaling.low_freq_factor));
  } else if (type == "yarn") {
    scaling.type = RopeType::kYarn;
    scaling.original_max_positions =
        rope.find_size("original_max_position_embeddings").value_or(max_positions);
    scaling.beta_fast = rope.find_positive("beta_fast").value_or(scaling.beta_fast);
    scaling.beta_slow = rope.find_positive("beta_slow").value_or(scaling.beta_slow);
    scaling.truncate = rope.find_bool("truncate").value_or(true);
    scaling.attention_factor = yarn_attention_factor(rope, scaling.factor);
  } else {
    rope.fail(type_key, "default, linear, llama3 or yarn");
  }
  return scaling;
}

void read_rope(const JsonFile& json, ModelConfig& config) {
  config.rope_theta = json.find_positive("rope_theta").value_or(10000.0);
  const char* key = json.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto refuse_partial = [](const JsonFile& fields) {
    if (fields.find_positive("partial_rotary_factor").value_or(1.0) != 1.0)
      fields.fail("partial_rotary_factor", "1");
  };
  refuse_partial(json);
  config.rotary_dim = config.head_dim;
  if (!json.has(key)) return;
  const JsonFile rope(json, key);
  refuse_partial(rope);
  config.rope_theta = rope.find_positive("rope_theta").value_or(config.rope_theta);
  config.rope_scaling = rope_scaling(rope, config.max_positions);
}

}  // namespace

ModelConfig read_hf_config(const std::filesystem::path& config_json) {
  const JsonFile json(config_json);
  const Architecture& row = architecture(json);
  ModelConfig config;
  row.describe(config);
  refuse_unsupported(json);
  config.num_layers = json.size("num_hidden_layers");
  config.hidden_size = json.size("hidden_size");
  config.ffn_size = json.size("intermediate_size");
  config.vocab_size = json.size("vocab_size");
  config.num_q_heads = json.size("num_attention_heads");
  config.num_kv_heads = json.find_size("num_key_value_heads").value_or(config.num_q_heads);
  if (config.num_q_heads % config.num_kv_heads != 0)
    json.fail("num_key_value_heads",
              "a divisor of num_attention_heads, " + std::to_string(config.num_q_heads));
  auto head_dim = json.find_size("head_dim");
  if (!head_dim && row.head_dim > 0) head_dim = row.head_dim;
  if (!head_dim && config.hidden_size % config.num_q_heads != 0)
    json.fail("num_attention_heads", "a divisor of hidden_size, " + std::to_string(config.hidden_size));
  config.head_dim = head_dim.value_or(config.hidden_size / config.num_q_heads);
  if (config.head_dim % 2 != 0)
    json.fail(head_dim ? "head_dim" : "num_attention_heads",
              "an even head dimension instead of " + std::to_string(config.head_dim));
  config.max_positions = json.find_size("max_position_embeddings").value_or(2048);
  config.rms_norm_eps = json.find_positive("rms_norm_eps").value_or(row.rms_norm_eps);
  config.tied_embeddings = json.find_bool("tie_word_embeddings").value_or(false);
  read_rope(json, config);
  return config;
}

}  // namespace redline
