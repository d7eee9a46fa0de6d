// redline inspect: what a model is, needs, and could reach; from its configuration alone.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/checkpoint.h"
#include "engine/meter/estimate.h"
#include "engine/meter/format.h"
#include "engine/meter/hardware.h"
#include "engine/meter/probe.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kPromptTokens[] = {1, 128, 512, 2048};
constexpr std::int64_t kDecodeBatches[] = {1, 8, 32, 128};

struct InspectFlags {
  std::string model;
  std::string on;
  std::int64_t depth = 0;
  std::optional<DType> dtype;
  DType kv_dtype = DType::kBF16;
  bool json = false;
};

/// A device to reason about, and which arithmetic it would use.
struct Device {
  std::string id, name;
  Peaks peaks;
  std::int64_t memory_bytes = 0;
  Estimate::ComputeOf compute_of;
};

Device this_machine() {
  const std::shared_ptr<Ops> ops = make_cpu_ops();
  const DevicePeaks peaks = peaks_for(*ops);
  return {"this", peaks.device_name, peaks.attainable(), this_cpu().memory_bytes,
          [ops](OpKind kind, DType weight) { return ops->compute_type(kind, weight); }};
}

std::vector<Device> devices_of(const std::string& on) {
  const auto from_table = [](const HardwareSpec& spec) {
    return Device{spec.id, spec.name, spec.peaks(), spec.memory_bytes, Estimate::bf16_compute};
  };
  std::vector<Device> devices;
  if (on.empty() || on == "this") devices.push_back(this_machine());
  if (on.empty())
    for (const char* id : {"h100", "h200", "a100"}) devices.push_back(from_table(*find_hardware(id)));
  if (!devices.empty()) return devices;
  if (const HardwareSpec* spec = find_hardware(on)) return {from_table(*spec)};
  std::string names = "this";
  for (const HardwareSpec& spec : known_hardware()) names += ", " + spec.id;
  throw UsageError("--on: '" + on + "' is not known; there are " + names);
}

/// One line of the verdicts: a prompt's prefill, or a batch's decode step.
struct Case {
  Phase phase;
  std::int64_t tokens, batch;
  Work work;
  std::optional<Verdict> verdict;

  std::string name() const {
    return phase == Phase::kPrefill ? "prefill " + std::to_string(tokens)
                                    : "decode batch " + std::to_string(batch);
  }
};

std::vector<Case> cases_of(const Estimate& estimate, const Peaks& peaks, std::int64_t depth) {
  std::vector<Case> cases;
  for (const std::int64_t tokens : kPromptTokens)
    cases.push_back({Phase::kPrefill, tokens, 1, estimate.prefill(tokens), {}});
  for (const std::int64_t batch : kDecodeBatches)
    cases.push_back({Phase::kDecode, batch, batch, estimate.decode(batch, depth), {}});
  for (Case& item : cases) item.verdict = verdict(item.work, peaks);
  return cases;
}

Json case_json(const Device& device, const Case& item, std::int64_t depth) {
  Json json{{"device", device.id},
            {"phase", kPhaseNames[static_cast<int>(item.phase)]},
            {"tokens", item.tokens},
            {"batch", item.batch},
            {"depth", item.phase == Phase::kDecode ? depth : 0},
            {"flops", item.work.flops()},
            {"bytes", item.work.bytes()},
            {"intensity", item.work.intensity()},
            {"compute_s", Json()},
            {"memory_s", Json()},
            {"time_s", Json()},
            {"tokens_per_s", Json()},
            {"bound_by", Json()}};
  if (item.verdict) {
    json["compute_s"] = item.verdict->compute_s;
    json["memory_s"] = item.verdict->memory_s;
    json["time_s"] = item.verdict->time_s();
    json["tokens_per_s"] = static_cast<double>(item.tokens) / item.verdict->time_s();
    json["bound_by"] = item.verdict->bound_by();
  }
  return json;
}

/// Context lengths that people ask for, up to the model's own.
std::vector<std::int64_t> lengths_of(const ModelConfig& config) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t length = 2048; length < config.max_positions; length *= 4) lengths.push_back(length);
  lengths.push_back(config.max_positions);
  return lengths;
}

std::map<std::string, std::int64_t> bytes_by_dtype(const StoredWeights& weights) {
  std::map<std::string, std::int64_t> bytes;
  const auto add = [&](DType type, std::int64_t elements) {
    if (elements > 0) bytes[traits(type).name] += row_bytes(type, elements);
  };
  for (std::size_t i = 0; i < kNumDTypes; ++i)
    add(static_cast<DType>(i), weights.projections[i] + weights.ffn[i]);
  add(DType::kF32, weights.vector_elements);
  add(weights.embedding, weights.table_elements);
  if (!weights.tied) add(weights.head, weights.table_elements);
  return bytes;
}

const char* rope_scaling_name(const RopeScaling& scaling) {
  constexpr const char* kNames[] = {"none", "linear", "llama3", "yarn", "longrope"};
  if (scaling.type == RopeType::kPlain && !scaling.frequency_divisors.empty()) return "rope_freqs";
  return kNames[static_cast<int>(scaling.type)];
}

Json config_json(const ModelConfig& c) {
  constexpr const char* kQkNormNames[] = {"none", "each_head", "joined_heads"};
  Json windows = Json::array(), unrotated = Json::array();
  for (std::int64_t i = 0; i < c.num_layers; ++i) {
    windows.push_back(c.layer(i).window);
    if (!c.layer(i).rotates) unrotated.push_back(i);
  }
  if (std::ranges::all_of(c.layers, [](const LayerConfig& layer) { return layer.window == 0; }))
    windows = Json::array();
  return {
      {"num_layers", c.num_layers},
      {"hidden_size", c.hidden_size},
      {"num_q_heads", c.num_q_heads},
      {"num_kv_heads", c.num_kv_heads},
      {"head_dim", c.head_dim},
      {"ffn_size", c.ffn_size},
      {"vocab_size", c.vocab_size},
      {"max_positions", c.max_positions},
      {"tied_embeddings", c.tied_embeddings},
      {"rotary_dim", c.rotary_dim},
      {"rope_theta", c.rope_theta},
      {"rope_scaling", rope_scaling_name(c.rope_scaling)},
      {"qkv_bias", c.qkv_bias},
      {"qk_norm", kQkNormNames[static_cast<int>(c.qk_norm)]},
      {"norm_placement", c.norm_placement == NormPlacement::kBeforeBlock ? "before" : "after"},
      {"windows", windows},
      {"unrotated_layers", unrotated},
      {"embedding_multiplier", c.embedding_multiplier},
      {"residual_multiplier", c.residual_multiplier},
      {"attention_multiplier",
       c.attention_multiplier > 0 ? c.attention_multiplier : 1 / std::sqrt(static_cast<double>(c.head_dim))},
      {"logits_divisor", c.logits_divisor}};
}

// What sets the model apart from a plain Llama, for people.
std::string features_of(const ModelConfig& c) {
  std::string features;
  const auto add = [&](bool has, const std::string& text) {
    if (has) features += (features.empty() ? "" : ", ") + text;
  };
  std::int64_t num_windowed = 0, widest = 0, num_unrotated = 0;
  for (const LayerConfig& layer : c.layers) {
    num_windowed += layer.window > 0;
    widest = std::max(widest, layer.window);
    num_unrotated += !layer.rotates;
  }
  add(c.rotary_dim != c.head_dim, std::to_string(c.rotary_dim) + " dimensions rotate");
  if (const std::string scaling = rope_scaling_name(c.rope_scaling); scaling != "none")
    add(true, "RoPE " + scaling);
  add(num_unrotated > 0, std::to_string(num_unrotated) + " layers without RoPE");
  add(num_windowed > 0,
      "a window of " + format_count(widest) + " in " + std::to_string(num_windowed) + " layers");
  add(c.qkv_bias, "QKV biases");
  add(c.qk_norm == QkNorm::kEachHead, "norms of q and k by head");
  add(c.qk_norm == QkNorm::kJoinedHeads, "norms of q and k");
  add(c.norm_placement == NormPlacement::kAfterBlock, "norms after blocks");
  add(c.embedding_multiplier != 1 || c.residual_multiplier != 1 || c.attention_multiplier != 0 ||
          c.logits_divisor != 1,
      "multipliers");
  return features;
}

Json inspect_json(const InspectFlags& flags, const Checkpoint& checkpoint, const StoredWeights& weights,
                  const std::vector<Device>& devices) {
  const ModelConfig& config = checkpoint.config();
  const Estimate plain(config, weights, flags.kv_dtype, Estimate::bf16_compute);
  const Work token = plain.decode(1, flags.depth);
  Json json{{"model", model_name(flags.model)},
            {"architecture", config.architecture},
            {"config", config_json(config)},
            {"parameters", {{"total", weights.parameters()}, {"active", weights.active_parameters()}}},
            {"weight_bytes", weights.bytes()},
            {"bytes_by_dtype", bytes_by_dtype(weights)},
            {"kv_bytes_per_token", plain.kv_bytes_per_token()},
            {"per_token", {{"depth", flags.depth}, {"flops", token.flops()}, {"bytes", token.bytes()}}},
            {"fits", Json::array()},
            {"verdicts", Json::array()}};
  for (const Device& device : devices) {
    const Estimate estimate(config, weights, flags.kv_dtype, device.compute_of);
    for (const std::int64_t length : lengths_of(config))
      json["fits"].push_back({{"device", device.id},
                              {"length", length},
                              {"sequences", device.memory_bytes > 0 ? Json(estimate.sequences_that_fit(
                                                                          device.memory_bytes, length))
                                                                    : Json()}});
    for (const Case& item : cases_of(estimate, device.peaks, flags.depth))
      json["verdicts"].push_back(case_json(device, item, flags.depth));
  }
  return json;
}

void print_model(const InspectFlags& flags, const Checkpoint& checkpoint, const StoredWeights& weights) {
  const ModelConfig& c = checkpoint.config();
  const Estimate plain(c, weights, flags.kv_dtype, Estimate::bf16_compute);
  const Work token = plain.decode(1, flags.depth);
  const auto si = [](std::int64_t value, const char* unit) {
    return format_si(static_cast<double>(value), unit);
  };
  std::printf(
      "%s: %s, %lld layers, hidden %lld, heads %lld / %lld of %lld, FFN %lld, vocabulary %s, context %s%s\n",
      model_name(flags.model).c_str(), c.architecture.c_str(), static_cast<long long>(c.num_layers),
      static_cast<long long>(c.hidden_size), static_cast<long long>(c.num_q_heads),
      static_cast<long long>(c.num_kv_heads), static_cast<long long>(c.head_dim),
      static_cast<long long>(c.ffn_size), format_count(c.vocab_size).c_str(),
      format_count(c.max_positions).c_str(), c.tied_embeddings ? ", tied embeddings" : "");
  if (const std::string features = features_of(c); !features.empty())
    std::printf("features      %s\n", features.c_str());
  std::printf("parameters    %s total, %s active\n", format_count(weights.parameters()).c_str(),
              format_count(weights.active_parameters()).c_str());
  std::string by_dtype;
  for (const auto& [dtype, bytes] : bytes_by_dtype(weights))
    by_dtype += (by_dtype.empty() ? "" : ", ") + dtype + " " + si(bytes, "B");
  std::printf("weights       %s (%s)\n", si(weights.bytes(), "B").c_str(), by_dtype.c_str());
  std::printf("KV cache      %s a token in %s\n", si(plain.kv_bytes_per_token(), "B").c_str(),
              traits(flags.kv_dtype).name);
  std::printf("a token       %s, %s after %s cached\n", si(token.flops(), "FLOP").c_str(),
              si(token.bytes(), "B").c_str(), format_count(flags.depth).c_str());
}

void print_device(const InspectFlags& flags, const Device& device, const Estimate& estimate,
                  const ModelConfig& config) {
  std::printf("\n%s\n", device.name.c_str());
  std::vector<std::vector<std::string>> table{
      {"", "FLOP", "bytes", "FLOP/B", "at best", "tok/s", "bound by"}};
  for (const Case& item : cases_of(estimate, device.peaks, flags.depth)) {
    const auto& v = item.verdict;
    table.push_back({item.name(), format_si(static_cast<double>(item.work.flops()), ""),
                     format_si(static_cast<double>(item.work.bytes()), "B"),
                     format_number(item.work.intensity()), v ? format_duration(v->time_s()) : kUnknownText,
                     v ? format_number(static_cast<double>(item.tokens) / v->time_s()) : kUnknownText,
                     v ? v->bound_by() : kUnknownText});
  }
  std::printf("%s", format_table(table, "  ").c_str());
  if (device.memory_bytes == 0) return;
  std::printf("  fits in %s:", format_si(static_cast<double>(device.memory_bytes), "B").c_str());
  const char* separator = " ";
  for (const std::int64_t length : lengths_of(config)) {
    std::printf("%s%s sequences of %s", separator,
                format_count(estimate.sequences_that_fit(device.memory_bytes, length)).c_str(),
                format_count(length).c_str());
    separator = ", ";
  }
  std::printf("\n");
}

int inspect(const InspectFlags& flags) {
  const Checkpoint checkpoint(flags.model);
  const StoredWeights weights = stored_weights(checkpoint, flags.dtype);
  const std::vector<Device> devices = devices_of(flags.on);
  if (flags.json) {
    std::printf("%s\n", inspect_json(flags, checkpoint, weights, devices).dump().c_str());
    return kExitDone;
  }
  print_model(flags, checkpoint, weights);
  for (const Device& device : devices)
    print_device(flags, device, Estimate(checkpoint.config(), weights, flags.kv_dtype, device.compute_of),
                 checkpoint.config());
  return kExitDone;
}

}  // namespace

Action declare_inspect(Flags& flags) {
  const auto values = std::make_shared<InspectFlags>();
  add_model_argument(flags, values->model);
  flags.text("--on", "NAME", "Reason about this device: this, h100, h200, a100, ... (default: these four)",
             values->on);
  flags.size("--depth", "Cached tokens before the token looked at (default: 0)", values->depth);
  flags.dtype("--dtype", "As if the weights were stored in this type (default: as the file does)",
              values->dtype);
  flags.dtype("--kv-dtype", "The cache's type: bf16, f32 or, on CPUs, q8_0", values->kv_dtype,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return inspect(*values); };
}

}  // namespace redline
