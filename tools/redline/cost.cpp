// redline cost: what tokens cost, of a measured run or on paper; devices for a load; what better MFU saves.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/checkpoint.h"
#include "engine/meter/economics.h"
#include "engine/meter/estimate.h"
#include "engine/meter/format.h"
#include "engine/meter/hardware.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct CostFlags {
  std::string from, on, model;
  std::int64_t prompt = 512, gen = 128;
  std::optional<double> price, devices, mfu, mfu_to, mfu_prefill, mfu_decode, flops_per_token, peak_tflops,
      input_per_s, output_per_s, most_busy;
  bool json = false;
};

double needed(const std::optional<double>& value, const char* flag, const char* why) {
  if (!value) throw UsageError(std::string(flag) + " is needed " + why);
  return *value;
}

MeasuredRun read_run(const std::string& path) {
  const Json json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw std::runtime_error(path + ": is no JSON");
  try {
    return measured_run(json);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json run_json(const MeasuredRun& run, const CostFlags& flags) {
  const RunCost cost = cost_of(run, *flags.price, flags.devices.value_or(1));
  return {
      {"wall_s", run.wall_s},
      {"input_tokens", run.input_tokens},
      {"output_tokens", run.output_tokens},
      {"mfu_wall", or_null(run.mfu)},
      {"cost", {{"total", cost.total}, {"input", cost.input}, {"output", cost.output}, {"idle", cost.idle}}},
      {"per_million_input_tokens", or_null(cost.per_million_input)},
      {"per_million_output_tokens", or_null(cost.per_million_output)},
      {"per_million_output_tokens_all_borne", or_null(cost.per_million_delivered)}};
}

Json load_json(const MeasuredRun& run, const CostFlags& flags) {
  const double input = flags.input_per_s.value_or(0), output = flags.output_per_s.value_or(0);
  const auto devices = devices_needed(run, input, output, flags.most_busy.value_or(1));
  Json json{
      {"input_tokens_per_s", input}, {"output_tokens_per_s", output}, {"devices_busy", or_null(devices)}};
  json["devices"] = devices ? Json(std::ceil(*devices * flags.devices.value_or(1))) : Json();
  json["price_per_hour"] = devices ? Json(json["devices"].get<double>() * *flags.price) : Json();
  return json;
}

double peak_of(const CostFlags& flags) {
  if (flags.peak_tflops) return *flags.peak_tflops * 1e12;
  if (flags.on.empty()) throw UsageError("--on or --peak-tflops is needed on paper");
  const HardwareSpec* spec = find_hardware(flags.on);
  if (!spec)
    throw UsageError("--on: '" + flags.on + "' is not known; redline inspect --on names the devices");
  return spec->flops[static_cast<std::size_t>(ComputeType::kBF16)].value;
}

Json token_json(const CostFlags& flags) {
  const double peak = peak_of(flags), mfu = needed(flags.mfu, "--mfu", "with --flops-per-token");
  const double cost = cost_per_token(*flags.price, *flags.flops_per_token, mfu, peak);
  return {{"flops_per_token", *flags.flops_per_token},
          {"peak_flops_per_s", peak},
          {"mfu_wall", mfu},
          {"per_million_tokens", cost * 1e6}};
}

// A call of `prompt` tokens in and `gen` out, the first of which comes of prefill: its tokens' mean FLOPs.
Json model_json(const CostFlags& flags) {
  const double peak = peak_of(flags), prefill = needed(flags.mfu_prefill, "--mfu-prefill", "with --model"),
               decode = needed(flags.mfu_decode, "--mfu-decode", "with --model");
  const Checkpoint checkpoint(flags.model);
  const Estimate estimate(checkpoint.config(), stored_weights(checkpoint), DType::kBF16,
                          Estimate::bf16_compute);
  const std::int64_t num_steps = std::max<std::int64_t>(1, flags.gen - 1);
  double decoded = 0;
  for (std::int64_t i = 0; i < num_steps; ++i)
    decoded += static_cast<double>(estimate.decode(1, flags.prompt + i).flops());
  const double input =
      static_cast<double>(estimate.prefill(flags.prompt).flops()) / static_cast<double>(flags.prompt);
  const double output = decoded / static_cast<double>(num_steps);
  return {{"prompt", flags.prompt},
          {"gen", flags.gen},
          {"flops_per_input_token", input},
          {"flops_per_output_token", output},
          {"peak_flops_per_s", peak},
          {"mfu_prefill", prefill},
          {"mfu_decode", decode},
          {"per_million_input_tokens", cost_per_token(*flags.price, input, prefill, peak) * 1e6},
          {"per_million_output_tokens", cost_per_token(*flags.price, output, decode, peak) * 1e6}};
}

// What was found, under the names that say its currency; null where nothing was.
void add_sums(Json& result) {
  const auto first = [&](const char* key, std::initializer_list<const char*> sections) {
    for (const char* section : sections)
      if (!result[section].is_null()) return result[section][key];
    return Json();
  };
  result["usd_per_million_input_tokens"] = first("per_million_input_tokens", {"model", "run"});
  result["usd_per_million_output_tokens"] = first("per_million_output_tokens", {"model", "run"});
  result["devices_saved"] = first("devices_saved", {"saving"});
  result["usd_per_hour"] = first("saved_per_hour", {"saving"});
  result["usd_per_year"] = first("saved_per_year", {"saving"});
}

Json saving_json(const CostFlags& flags, const std::optional<double>& measured_mfu) {
  const MfuChange change{.devices = needed(flags.devices, "--devices", "with --mfu-to"),
                         .mfu_from = needed(flags.mfu ? flags.mfu : measured_mfu, "--mfu", "with --mfu-to"),
                         .mfu_to = *flags.mfu_to,
                         .price_per_hour = *flags.price};
  return {{"devices", change.devices},
          {"mfu_from", change.mfu_from},
          {"mfu_to", change.mfu_to},
          {"share_saved", change.share_saved()},
          {"devices_saved", change.devices_saved()},
          {"saved_per_hour", change.saved_per_hour()},
          {"saved_per_year", change.saved_per_year()}};
}

std::string money(double amount) {
  char text[64];
  std::snprintf(text, sizeof text, std::abs(amount) < 1 ? "%.3g" : "%.2f", amount);
  return std::abs(amount) < 1e4 ? text : format_count(std::llround(amount));
}

std::string words_of(std::string key) {
  for (char& c : key) c = c == '_' ? ' ' : c;
  return key;
}

// Every figure of the JSON as a row: the two forms cannot say different things.
void add_rows(const Json& json, const std::string& path, std::vector<std::vector<std::string>>& rows) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = path.empty() ? words_of(key) : path + ": " + words_of(key);
    if (value.is_object()) {
      add_rows(value, name, rows);
      continue;
    }
    const bool is_share = key.starts_with("mfu") || key.starts_with("share");
    const bool is_money =
        name.find("per million") != std::string::npos || name.find("cost") != std::string::npos ||
        name.find("per hour") != std::string::npos || name.find("per year") != std::string::npos;
    rows.push_back({name, value.is_null() ? kUnknownText
                          : is_share      ? format_percent(value)
                          : is_money      ? money(value)
                          : key.ends_with("_s") && key.find("per") == std::string::npos
                              ? format_duration(value)
                              : format_number(value)});
  }
}

int cost(const CostFlags& flags) {
  needed(flags.price, "--price", "always: that of a device's hour");
  std::optional<MeasuredRun> run;
  if (!flags.from.empty()) run = read_run(flags.from);
  const bool wants_load = flags.input_per_s || flags.output_per_s;
  if (!run && flags.model.empty() && !flags.flops_per_token && !flags.mfu_to)
    throw UsageError("give --from RUN.json, or --model, or --flops-per-token, or --mfu-to");
  if (wants_load && !run) throw UsageError("--from is needed for a load");
  Json result{{"price_per_device_hour", *flags.price},
              {"run", Json()},
              {"load", Json()},
              {"token", Json()},
              {"model", Json()},
              {"saving", Json()}};
  if (run) result["run"] = run_json(*run, flags);
  if (wants_load) result["load"] = load_json(*run, flags);
  if (flags.flops_per_token) result["token"] = token_json(flags);
  if (!flags.model.empty()) result["model"] = model_json(flags);
  if (flags.mfu_to) result["saving"] = saving_json(flags, run ? run->mfu : std::nullopt);
  if (flags.json) {
    add_sums(result);
    std::printf("%s\n", result.dump().c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : result.items())
    if (!value.is_null()) add_rows(Json{{key, value}}, "", rows);
  std::printf("%s", format_table(rows).c_str());
  return kExitDone;
}

}  // namespace

Action declare_cost(Flags& flags) {
  constexpr double kMost = 1e30, kLeast = 1e-30;
  const auto values = std::make_shared<CostFlags>();
  flags.number("--price", "Price of a device's hour, in any currency", values->price, 0, kMost);
  flags.number("--price-per-hour", "The same", values->price, 0, kMost);
  flags.text("--from", "FILE", "A run to charge: what run, batch or bench printed with --json", values->from);
  flags.number("--devices", "Devices that the run took (default: 1), or that a fleet has", values->devices,
               kLeast, kMost);
  flags.number("--input-rate", "Input tokens a second that a load brings", values->input_per_s, 0, kMost);
  flags.number("--output-rate", "Output tokens a second that it asks for", values->output_per_s, 0, kMost);
  flags.number("--most-busy", "Share of the time that its devices may be busy (default: 1)",
               values->most_busy, 0.01, 1);
  flags.number("--flops-per-token", "On paper: FLOPs of a token (redline inspect says them)",
               values->flops_per_token, kLeast, kMost);
  flags.text("--on", "NAME", "On paper: a device whose bf16 peak counts, as h100", values->on);
  flags.number("--peak-tflops", "On paper: the peak itself, in TFLOP/s", values->peak_tflops, kLeast, kMost);
  flags.text("--model", "MODEL", "On paper: a model whose tokens count, at --mfu-prefill and --mfu-decode",
             values->model);
  flags.number("--mfu-prefill", "With --model: MFU of prefill, 0 to 1", values->mfu_prefill, kLeast, 1);
  flags.number("--mfu-decode", "With --model: MFU of decode, 0 to 1", values->mfu_decode, kLeast, 1);
  flags.size("--prompt", "With --model: tokens of a prompt", values->prompt, 1);
  flags.size("--gen", "With --model: tokens of an answer", values->gen, 1);
  flags.number("--mfu", "MFU over wall time, 0 to 1 (default: the run's)", values->mfu, kLeast, 1);
  flags.number("--mfu-from", "The same", values->mfu, kLeast, 1);
  flags.number("--mfu-to", "What another MFU would save the fleet", values->mfu_to, kLeast, 1);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return cost(*values); };
}

}  // namespace redline
