#include "engine/meter/economics.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kMillion = 1e6;

const Json& member(const Json& json, const std::string& key) {
  if (!json.is_object() || !json.contains(key))
    throw std::runtime_error("expected what redline run, batch or bench print with --json, found no \"" +
                             key + "\"");
  return json.at(key);
}

double number(const Json& json, const std::string& key) {
  const Json& value = member(json, key);
  if (!value.is_number())
    throw std::runtime_error("expected a number, found \"" + key + "\": " + value.dump());
  return value.get<double>();
}

std::int64_t count(const Json& json, const std::string& key) {
  const Json& value = member(json, key);
  if (!value.is_number_integer())
    throw std::runtime_error("expected an integer, found \"" + key + "\": " + value.dump());
  return value.get<std::int64_t>();
}

// Seconds that the phase's useful FLOPs take at the peak; nothing where it is unknown.
std::optional<double> compute_s(const Json& phase) {
  if (count(phase, "steps") == 0) return 0.0;
  const Json& peak = member(phase, "mfu_peak_flops_per_s");
  if (!peak.is_number()) return std::nullopt;
  return number(member(phase, "flops"), "useful") / peak.get<double>();
}

void set_mfu(MeasuredRun& run, const std::optional<double>& prefill_s,
             const std::optional<double>& decode_s) {
  if (prefill_s && decode_s && run.wall_s > 0) run.mfu = (*prefill_s + *decode_s) / run.wall_s;
}

MeasuredRun bench_run(const Json& rows) {
  MeasuredRun run;
  std::optional<double> compute = 0.0;
  for (const Json& row : rows) {
    const Json& phase = member(row, "utilization");
    const double wall_s = number(phase, "wall_s");
    const std::int64_t tokens = count(phase, "tokens");
    const bool is_prefill = count(row, "n_prompt") > 0;
    (is_prefill ? run.prefill_s : run.decode_s) += wall_s;
    (is_prefill ? run.input_tokens : run.output_tokens) += tokens;
    run.wall_s += wall_s;
    const std::optional<double> more = compute_s(phase);
    compute = compute && more ? std::optional(*compute + *more) : std::nullopt;
  }
  set_mfu(run, compute, 0.0);
  return run;
}

}  // namespace

double cost_per_token(double price_per_hour, double flops_per_token, double mfu_wall,
                      double peak_flops_per_s) {
  return price_per_hour * flops_per_token / (mfu_wall * peak_flops_per_s * kSecondsPerHour);
}

MeasuredRun measured_run(const Json& json) {
  if (json.is_array()) return bench_run(json);
  const Json& utilization = member(json, "utilization");
  const Json& phases = member(utilization, "phases");
  const Json &prefill = member(phases, "prefill"), &decode = member(phases, "decode");
  MeasuredRun run;
  run.wall_s = number(utilization, "wall_s");
  run.prefill_s = number(prefill, "wall_s");
  run.decode_s = number(decode, "wall_s");
  // Tokens found in the prefix cache are input too, and the first generated one comes of prefill.
  run.input_tokens =
      json.contains("prompt_token_ids") ? std::ssize(json.at("prompt_token_ids")) : count(prefill, "tokens");
  run.output_tokens = json.contains("token_ids") ? std::ssize(json.at("token_ids")) : count(decode, "tokens");
  set_mfu(run, compute_s(prefill), compute_s(decode));
  return run;
}

RunCost cost_of(const MeasuredRun& run, double price_per_hour, double num_devices) {
  const double per_s = price_per_hour * num_devices / kSecondsPerHour;
  const auto per_million = [](double cost, std::int64_t tokens) {
    return tokens > 0 ? std::optional(cost / static_cast<double>(tokens) * kMillion) : std::nullopt;
  };
  RunCost cost{.total = run.wall_s * per_s,
               .input = run.prefill_s * per_s,
               .output = run.decode_s * per_s,
               .idle = run.idle_s() * per_s,
               .per_million_input = {},
               .per_million_output = {},
               .per_million_delivered = {}};
  cost.per_million_input = per_million(cost.input, run.input_tokens);
  cost.per_million_output = per_million(cost.output, run.output_tokens);
  cost.per_million_delivered = per_million(cost.total, run.output_tokens);
  return cost;
}

std::optional<double> devices_needed(const MeasuredRun& run, double input_per_s, double output_per_s,
                                     double most_busy) {
  if ((input_per_s > 0 && run.input_tokens == 0) || (output_per_s > 0 && run.output_tokens == 0))
    return std::nullopt;
  const auto busy = [](double per_s, double seconds, std::int64_t tokens) {
    return per_s > 0 ? per_s * seconds / static_cast<double>(tokens) : 0;
  };
  return (busy(input_per_s, run.prefill_s, run.input_tokens) +
          busy(output_per_s, run.decode_s, run.output_tokens)) /
         most_busy;
}

}  // namespace redline
