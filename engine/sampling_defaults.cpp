#include "engine/sampling_defaults.h"

#include <limits>

#include "engine/checkpoint.h"
#include "engine/json_file.h"

namespace redline {
namespace {

constexpr double kMostTokens = std::numeric_limits<std::int32_t>::max();

struct Setting {
  const char *hf, *gguf;
  double low, high;
  void (*set)(SamplingDefaults& defaults, double value);
};

constexpr Setting kSettings[] = {
    {"temperature", "general.sampling.temp", 0, 100,
     [](SamplingDefaults& d, double value) { d.temperature = static_cast<float>(value); }},
    {"top_p", "general.sampling.top_p", 1e-9, 1,
     [](SamplingDefaults& d, double value) { d.top_p = static_cast<float>(value); }},
    {"min_p", "general.sampling.min_p", 0, 1,
     [](SamplingDefaults& d, double value) { d.min_p = static_cast<float>(value); }},
    {"repetition_penalty", "general.sampling.penalty_repeat", 1e-3, 1000,
     [](SamplingDefaults& d, double value) { d.repetition_penalty = static_cast<float>(value); }},
    {"top_k", "general.sampling.top_k", -1, kMostTokens,
     [](SamplingDefaults& d, double value) { d.top_k = static_cast<std::int32_t>(value); }},
};

std::string range_text(const Setting& setting) {
  return "a number from " + std::to_string(setting.low) + " to " + std::to_string(setting.high);
}

SamplingDefaults of_gguf(const GgufFile& file) {
  SamplingDefaults defaults;
  for (const Setting& setting : kSettings) {
    const std::optional<double> value = file.find_float(setting.gguf);
    if (!value) continue;
    if (!(*value >= setting.low && *value <= setting.high))
      file.fail_key(setting.gguf, range_text(setting), std::to_string(*value));
    setting.set(defaults, *value);
  }
  return defaults;
}

SamplingDefaults of_directory(const std::filesystem::path& directory) {
  SamplingDefaults defaults;
  const auto path = directory / "generation_config.json";
  if (!exists(path)) return defaults;
  const JsonFile file(path);
  for (const Setting& setting : kSettings) {
    if (!file.has(setting.hf)) continue;
    const auto& value = file.object()[setting.hf];
    if (!value.is_number() || !(value >= setting.low && value <= setting.high))
      file.fail(setting.hf, range_text(setting));
    setting.set(defaults, value.get<double>());
  }
  return defaults;
}

}  // namespace

SamplingDefaults read_sampling_defaults(const Checkpoint& checkpoint) {
  return checkpoint.gguf() ? of_gguf(*checkpoint.gguf()) : of_directory(checkpoint.path());
}

}  // namespace redline
