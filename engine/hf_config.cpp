#include "engine/hf_config.h"

#include <algorithm>
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
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (json.find_bool(key).value_or(false)) json.fail(key, "false");
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

// Phi-3's files: one set of frequencies for texts of the trained length, another for longer ones.
void read_longrope(const JsonFile& json, const JsonFile& rope, const ModelConfig& config,
                   RopeScaling& scaling) {
  scaling.type = RopeType::kLongRope;
  constexpr const char* kOriginal = "original_max_position_embeddings";
  scaling.original_max_positions =
      json.find_size(kOriginal).value_or(rope.find_size(kOriginal).value_or(config.max_positions));
  const auto original = static_cast<double>(scaling.original_max_positions);
  scaling.factor =
      rope.find_positive("factor").value_or(static_cast<double>(config.max_positions) / original);
  scaling.attention_factor =
      rope.find_positive("attention_factor")
          .value_or(scaling.factor <= 1 || original <= 1
                        ? 1.0
                        : std::sqrt(1 + std::log(scaling.factor) / std::log(original)));
  const auto num_pairs = static_cast<std::size_t>(config.rotary_dim / 2);
  scaling.short_divisors = rope.positives("short_factor", num_pairs);
  scaling.long_divisors = rope.positives("long_factor", num_pairs);
}

// `rope`: config.json's rope_scaling, or rope_parameters as transformers 5 writes them.
RopeScaling rope_scaling(const JsonFile& json, const JsonFile& rope, const ModelConfig& config) {
  RopeScaling scaling;
  const char* type_key = rope.has("rope_type") ? "rope_type" : "type";
  auto type = rope.find_string(type_key).value_or("default");
  if (config.architecture == "phi3" && (type == "su" || type == "yarn"))
    type = "longrope";  // as it was once called
  if (type == "default") return scaling;
  if (type == "longrope") {
    read_longrope(json, rope, config, scaling);
    return scaling;
  }
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
        rope.find_size("original_max_position_embeddings").value_or(config.max_positions);
    scaling.beta_fast = rope.find_positive("beta_fast").value_or(scaling.beta_fast);
    scaling.beta_slow = rope.find_positive("beta_slow").value_or(scaling.beta_slow);
    scaling.truncate = rope.find_bool("truncate").value_or(true);
    scaling.attention_factor = yarn_attention_factor(rope, scaling.factor);
  } else {
    rope.fail(type_key, "default, linear, llama3, yarn or longrope");
  }
  return scaling;
}

std::int64_t rotary_dim(const JsonFile& fields, const Architecture& row, const ModelConfig& config) {
  constexpr const char* kKey = "partial_rotary_factor";
  const double factor = fields.find_positive(kKey).value_or(1.0);
  if (!row.partial_rotary && factor != 1.0) fields.fail(kKey, "1");
  const auto dim = static_cast<std::int64_t>(static_cast<double>(config.head_dim) * std::min(factor, 2.0));
  if (dim < 2 || dim > config.head_dim || dim % 2 != 0)
    fields.fail(kKey, "an even part of " + std::to_string(config.head_dim) + " dimensions");
  return dim;
}

void read_rope(const JsonFile& json, const Architecture& row, ModelConfig& config) {
  config.rope_theta = json.find_positive("rope_theta").value_or(10000.0);
  const char* key = json.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  config.rotary_dim = rotary_dim(json, row, config);
  if (!json.has(key)) return;
  const JsonFile rope(json, key);
  if (rope.has("partial_rotary_factor")) config.rotary_dim = rotary_dim(rope, row, config);
  config.rope_theta = rope.find_positive("rope_theta").value_or(config.rope_theta);
  config.rope_scaling = rope_scaling(json, rope, config);
}

// An array with an entry for each layer, or null.
const nlohmann::json* layer_array(const JsonFile& json, const char* key, const ModelConfig& config) {
  if (!json.has(key)) return nullptr;
  const auto& array = json.object()[key];
  if (!array.is_array() || std::ssize(array) != config.num_layers)
    json.fail(key, "an array of " + std::to_string(config.num_layers));
  return &array;
}

void read_rotation(const JsonFile& json, const Architecture& row, ModelConfig& config) {
  if (row.unrotated_period == 0) return;
  const char* const key = "no_rope_layers";  // despite its name: 1 where a layer rotates
  const auto* listed = layer_array(json, key, config);
  const auto period = json.find_size("no_rope_layer_interval").value_or(row.unrotated_period);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    auto& layer = config.layers[static_cast<std::size_t>(i)];
    if (!listed) {
      layer.rotates = (i + 1) % period != 0;
      continue;
    }
    const auto& entry = (*listed)[static_cast<std::size_t>(i)];
    if (entry != 0 && entry != 1) json.fail(key, "an array of 0 and 1");
    layer.rotates = entry == 1;
  }
}

void read_windows(const JsonFile& json, const Architecture& row, ModelConfig& config) {
  if (row.windowed_layers == WindowedLayers::kNone) return;
  const bool all = row.windowed_layers == WindowedLayers::kAll;
  if (!all && !json.find_bool("use_sliding_window").value_or(false)) return;
  std::optional<std::int64_t> window = json.find_size("sliding_window");
  if (!window && !json.mentions("sliding_window") && row.sliding_window > 0) window = row.sliding_window;
  if (!window) return;
  const auto* listed = all ? nullptr : layer_array(json, "layer_types", config);
  const auto first = json.find_size("max_window_layers").value_or(28);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    auto& layer = config.layers[static_cast<std::size_t>(i)];
    bool windowed = all || (row.windowed_layers == WindowedLayers::kUpper ? i >= first : !layer.rotates);
    if (listed) {
      const auto& entry = (*listed)[static_cast<std::size_t>(i)];
      windowed = entry == "sliding_attention";
      if (!windowed && entry != "full_attention")
        json.fail("layer_types", "an array of \"full_attention\" and \"sliding_attention\"");
    }
    if (windowed) layer.window = *window;
  }
}

void read_layers(const JsonFile& json, const Architecture& row, ModelConfig& config) {
  constexpr std::int64_t kMaxLayers = 1 << 16;  // what follows takes memory before any tensor proves them
  if (config.num_layers > kMaxLayers)
    json.fail("num_hidden_layers", "at most " + std::to_string(kMaxLayers) + " layers");
  config.layers.assign(static_cast<std::size_t>(config.num_layers), LayerConfig{});
  read_rotation(json, row, config);
  read_windows(json, row, config);
  if (std::ranges::all_of(config.layers, [](const LayerConfig& layer) { return layer == LayerConfig{}; }))
    config.layers.clear();
}

void read_multipliers(const JsonFile& json, ModelConfig& config) {
  config.embedding_multiplier = json.find_positive("embedding_multiplier").value_or(1.0);
  config.residual_multiplier = json.find_positive("residual_multiplier").value_or(1.0);
  config.attention_multiplier = json.find_positive("attention_multiplier").value_or(1.0);
  config.logits_divisor = json.find_positive("logits_scaling").value_or(1.0);
}

}  // namespace

ModelConfig read_hf_config(const std::filesystem::path& config_json) {
  return read_hf_config(JsonFile(config_json));
}

ModelConfig read_hf_config(const JsonFile& json) {
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
  config.tied_embeddings = json.find_bool("tie_word_embeddings").value_or(row.tied_embeddings);
  read_rope(json, row, config);
  read_layers(json, row, config);
  if (row.has_multipliers) read_multipliers(json, config);
  return config;
}

}  // namespace redline
