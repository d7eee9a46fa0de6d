// redline plan: latency, throughput, memory, cost and devices for a load, before anything is bought.
#include "engine/meter/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/checkpoint.h"
#include "engine/memory.h"
#include "engine/meter/economics.h"
#include "engine/meter/format.h"
#include "engine/meter/hardware.h"
#include "engine/meter/probe.h"
#include "engine/model_shapes.h"
#include "tools/redline/command.h"
#include "tools/redline/measured_steps.h"
#include "tools/redline/session.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

// What Llama-3.1-8B in bf16 reached on an H100: docs/bench/h100.jsonl, MFU of pp512 and MBU of tg32.
constexpr double kAssumedCompute = 0.59, kAssumedBandwidth = 0.75;
constexpr double kMillion = 1e6;

struct PlanFlags {
  std::string model, shape, on = "this";
  std::int64_t input_len = 512, output_len = 128, depth = -1, batch = 0;
  std::optional<double> rate, target_tpot_s, target_ttft_s, price, compute_share, bandwidth_share;
  EngineOptions engine{};
  ModelFlags model_flags;
  bool json = false;

  std::string name() const { return shape.empty() ? model_name(model) : shape; }
};

/// What is planned with: a device's steps, its memory, and where its efficiencies come from.
struct PlannedDevice {
  std::string name;
  std::int64_t memory_bytes = 0;
  std::string source{};
  std::shared_ptr<LoadedModel> model{};  // that ran here; null: nothing ran
  std::shared_ptr<Ops> ops{};
  std::optional<StepTimes> times{};
};

struct PlannedModel {
  ModelConfig config;
  StoredWeights weights;
};

PlannedModel model_of(const PlanFlags& flags) {
  if (flags.model.empty() == flags.shape.empty()) throw UsageError("give either MODEL or --shape NAME");
  if (!flags.model.empty()) {
    const Checkpoint checkpoint(flags.model);
    return {checkpoint.config(), stored_weights(checkpoint, flags.model_flags.dtype)};
  }
  const auto config = named_shape(flags.shape);
  if (!config) throw UsageError("--shape: '" + flags.shape + "' is not known; there are " + shape_names());
  return {*config, stored_weights(*config, flags.model_flags.dtype.value_or(DType::kBF16))};
}

PlannedLoad load_of(const PlanFlags& flags) {
  PlannedLoad load{.input_len = flags.input_len,
                   .output_len = flags.output_len,
                   .chunk_tokens = flags.engine.max_batched_tokens,
                   .most_sequences = flags.engine.max_sequences,
                   .target_tpot_s = flags.target_tpot_s,
                   .target_ttft_s = flags.target_ttft_s};
  if (flags.depth >= 0) load.mean_depth = flags.depth;
  return load;
}

void require_fit(const PlanFlags& flags, const Estimate& estimate, const PlannedLoad& load,
                 const PlannedDevice& device) {
  if (device.memory_bytes <= 0) return;
  const auto gib = [](std::int64_t bytes) { return format_si(static_cast<double>(bytes), "B"); };
  const std::int64_t each = load.length() * estimate.kv_bytes_per_token(),
                     fit = estimate.sequences_that_fit(device.memory_bytes, load.length());
  const std::string has = device.name + " has " + gib(device.memory_bytes);
  if (fit < 1)
    throw std::runtime_error(flags.name() + " needs " + gib(estimate.weights().bytes()) +
                             " for its weights and " + gib(each) + " for one sequence of " +
                             format_count(load.length()) + " tokens; " + has +
                             ": a narrower --dtype or shorter sequences would help");
  if (flags.batch > fit)
    throw std::runtime_error(std::to_string(flags.batch) + " sequences of " + format_count(load.length()) +
                             " tokens need " + gib(estimate.weights().bytes() + flags.batch * each) + "; " +
                             has + ", enough for " + format_count(fit));
}

// Steps that reach what the flags say, or what is assumed.
StepTimes on_paper(const PlanFlags& flags, const Estimate& estimate, const Peaks& peaks) {
  const StepModel model(flags.compute_share.value_or(kAssumedCompute),
                        flags.bandwidth_share.value_or(kAssumedBandwidth), peaks);
  return {estimate, {{1, model}}, peaks};
}

PlannedDevice from_table(const PlanFlags& flags, const PlannedModel& model, const PlannedLoad& load) {
  const HardwareSpec* spec = find_hardware(flags.on);
  if (!spec) {
    std::string names = "this";
    for (const HardwareSpec& each : known_hardware()) names += ", " + each.id;
    throw UsageError("--on: '" + flags.on + "' is not known; there are " + names);
  }
  PlannedDevice device{.name = spec->name, .memory_bytes = spec->memory_bytes};
  const Estimate estimate(model.config, model.weights, flags.engine.kv_dtype, Estimate::bf16_compute);
  require_fit(flags, estimate, load, device);
  const bool given = flags.compute_share && flags.bandwidth_share;
  device.source = given ? "as given" : "assumed: what Llama-3.1-8B in bf16 reached on an H100";
  device.times.emplace(on_paper(flags, estimate, spec->peaks()));
  return device;
}

PlannedDevice this_machine(const PlanFlags& flags, const PlannedModel& model, const PlannedLoad& load) {
  const ModelOptions options = flags.model_flags.options();
  PlannedDevice device;
  device.ops = options.make_ops ? options.make_ops() : make_cpu_ops(options.cpu);
  const DevicePeaks peaks = peaks_for(*device.ops);
  device.name = peaks.device_name;
  device.memory_bytes = available_memory_bytes(*device.ops);
  const Estimate estimate(
      model.config, model.weights, flags.engine.kv_dtype,
      [ops = device.ops](OpKind kind, DType type) { return ops->compute_type(kind, type); });
  require_fit(flags, estimate, load, device);
  if (flags.compute_share && flags.bandwidth_share) {
    const Peaks known = peaks.vendor().bandwidth > 0 ? peaks.vendor() : peaks.attainable();
    device.source = "as given";
    device.times.emplace(on_paper(flags, estimate, known));
    return device;
  }
  device.model =
      flags.shape.empty()
          ? load_model(flags.model, flags.model_flags)
          : LoadedModel::random(flags.shape, flags.model_flags.dtype.value_or(DType::kBF16), options);
  constexpr std::int64_t kMostPrompt = 2048, kMostDepth = 256, kMostBatch = 32;
  MeasuredShapes shapes{.prompt_tokens = std::min(load.input_len, kMostPrompt),
                        .depth = std::clamp<std::int64_t>(load.depth(), 1, kMostDepth),
                        .most_sequences = std::min(load.most_sequences, kMostBatch),
                        .engine = flags.engine};
  device.source = "measured on this machine";
  device.times.emplace(measure_steps(device.model, shapes));
  return device;
}

/// What is printed, for people and machines.
struct Plan {
  PlannedLoad load;
  std::optional<SteadyState> state;  // of a rate, each device's
  std::int64_t batch = 1;            // without a rate
  std::int64_t devices = 1;
  bool saturated = false;  // one device alone
  bool within_targets = true;
  double ttft_s = 0, tpot_s = 0, tokens_per_s = 0;
  double prefill_s = 0, decode_s = 0, device_s = 0;  // of a device, a request; the last with idle time
};

Plan plan_of(const PlanFlags& flags, const PlannedLoad& load, const LoadModel& model,
             const StepTimes& times) {
  Plan plan{.load = load, .state = {}};
  const double output = static_cast<double>(load.output_len);
  if (!flags.rate) {
    plan.batch = std::max<std::int64_t>(1, flags.batch);
    const double batch = static_cast<double>(plan.batch);
    plan.ttft_s = model.prompt_s();
    plan.tpot_s = times.seconds(batch, load.depth());
    plan.tokens_per_s = batch / plan.tpot_s;
    plan.prefill_s = plan.ttft_s;
    plan.decode_s = (output - 1) * plan.tpot_s / batch;
    plan.device_s = 1 / model.capacity(plan.batch);
    plan.within_targets = (!load.target_tpot_s || plan.tpot_s <= *load.target_tpot_s) &&
                          (!load.target_ttft_s || plan.ttft_s <= *load.target_ttft_s);
    return plan;
  }
  plan.saturated = !model.at(*flags.rate);
  const auto devices = model.devices(*flags.rate);
  plan.within_targets = devices.has_value();
  // Where no number of devices helps, one for each request comes nearest.
  plan.devices = devices.value_or(1);
  plan.state = model.at(devices ? *flags.rate / static_cast<double>(plan.devices) : 0);
  plan.ttft_s = plan.state->ttft_s;
  plan.tpot_s = plan.state->tpot_s;
  plan.tokens_per_s = *flags.rate * output;
  plan.prefill_s = plan.state->prefill_s;
  plan.decode_s = plan.state->decode_s;
  plan.device_s = static_cast<double>(plan.devices) / *flags.rate;
  return plan;
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json state_json(const std::optional<SteadyState>& state, const PlannedLoad& load) {
  if (!state) return {};
  return {{"requests_per_s", state->requests_per_s},
          {"batch", state->batch},
          {"tokens_per_s", state->requests_per_s * static_cast<double>(load.output_len)}};
}

Json cost_json(const PlanFlags& flags, const Plan& plan) {
  const auto per_million = [&](double seconds, std::int64_t tokens) -> Json {
    if (!flags.price || tokens <= 0) return {};
    return *flags.price / kSecondsPerHour * seconds / static_cast<double>(tokens) * kMillion;
  };
  return {{"usd_per_million_input_tokens", per_million(plan.prefill_s, plan.load.input_len)},
          {"usd_per_million_output_tokens",
           plan.load.output_len > 1 ? per_million(plan.decode_s, plan.load.output_len - 1) : Json()},
          {"usd_per_million_output_tokens_all_borne", per_million(plan.device_s, plan.load.output_len)}};
}

Json plan_json(const PlanFlags& flags, const PlannedDevice& device, const PlannedLoad& asked) {
  const StepTimes& times = *device.times;
  const Estimate& estimate = times.estimate();
  PlannedLoad load = asked;
  const std::int64_t fit = device.memory_bytes > 0
                               ? estimate.sequences_that_fit(device.memory_bytes, load.length())
                               : load.most_sequences;
  const bool memory_limits = fit < load.most_sequences;
  load.most_sequences = std::min(load.most_sequences, fit);
  const LoadModel model(times, load);
  const Plan plan = plan_of(flags, load, model, times);

  const PromptChunk prompt{std::min(load.input_len, load.chunk_tokens), 0,
                           load.input_len <= load.chunk_tokens};
  const double mean_batch = plan.state ? plan.state->batch : static_cast<double>(plan.batch);
  const auto steps_of = std::max<std::int64_t>(1, std::llround(mean_batch));
  const Verdict prefill = times.roofline(0, 0, prompt), decode = times.roofline(steps_of, load.depth());
  const double held = plan.state ? plan.state->requests_per_s * plan.state->e2e_s : mean_batch;
  const auto sequences = static_cast<std::int64_t>(std::ceil(std::max(1.0, held)));
  const std::int64_t kv = sequences * load.length() * estimate.kv_bytes_per_token();
  Json json{{"model", flags.name()},
            {"device", device.name},
            {"rate", or_null(flags.rate)},
            {"input_len", load.input_len},
            {"output_len", load.output_len},
            {"depth", load.depth()},
            {"efficiency",
             {{"source", device.source},
              {"prefill", prefill.time_s() / times.seconds(0, 0, prompt)},
              {"decode", decode.time_s() / times.seconds(static_cast<double>(steps_of), load.depth())}}},
            {"batch", mean_batch},
            {"ttft_s", plan.ttft_s},
            {"ttft_p99_s", plan.state ? Json(plan.state->ttft_p99_s) : Json()},
            {"tpot_s", plan.tpot_s},
            {"tpot_p99_s", plan.state ? Json(plan.state->tpot_p99_s) : Json()},
            {"tokens_per_s", plan.tokens_per_s},
            {"bound_by", decode.bound_by()},
            {"prefill_bound_by", prefill.bound_by()},
            {"memory_bytes", estimate.weights().bytes() + kv},
            {"memory",
             {{"weights", estimate.weights().bytes()},
              {"kv", kv},
              {"device", device.memory_bytes > 0 ? Json(device.memory_bytes) : Json()},
              {"most_sequences", load.most_sequences},
              {"limited_by", memory_limits ? "memory" : "max_num_seqs"}}},
            {"saturated", plan.saturated},
            {"devices", plan.devices},
            {"busy", plan.state ? Json(plan.state->busy) : Json()},
            {"targets",
             {{"tpot_s", or_null(load.target_tpot_s)},
              {"ttft_s", or_null(load.target_ttft_s)},
              {"met", plan.within_targets}}},
            {"most", state_json(model.most(), load)},
            {"price_per_device_hour", or_null(flags.price)}};
  json.update(cost_json(flags, plan));
  return json;
}

std::string text_of(const Json& value, std::string (*format)(double)) {
  return value.is_null() ? std::string(kUnknownText) : format(value.get<double>());
}

void print_plan(const Json& json, const PlanFlags& flags) {
  const auto bytes = [](const Json& value) { return format_si(value.get<double>(), "B"); };
  const auto number = [](const Json& value) { return text_of(value, format_number); };
  const auto duration = [](const Json& value) { return text_of(value, format_duration); };
  const auto percent = [](const Json& value) { return text_of(value, format_percent); };
  std::printf("%s on %s, %lld tokens in, %lld out", flags.name().c_str(),
              json["device"].get<std::string>().c_str(), static_cast<long long>(flags.input_len),
              static_cast<long long>(flags.output_len));
  std::printf(flags.rate ? ", %s requests/s\n" : "\n", number(json["rate"]).c_str());
  const auto p99 = [&](const Json& value) { return value.is_null() ? "" : " (p99 " + duration(value) + ")"; };
  const Json &efficiency = json["efficiency"], &memory = json["memory"], &most = json["most"];
  std::vector<std::vector<std::string>> rows{
      {"share of the roofline", "prefill " + percent(efficiency["prefill"]) + ", decode " +
                                    percent(efficiency["decode"]) + " (" +
                                    efficiency["source"].get<std::string>() + ")"},
      {"TTFT", duration(json["ttft_s"]) + p99(json["ttft_p99_s"])},
      {"TPOT", duration(json["tpot_s"]) + p99(json["tpot_p99_s"]) + " at batch " + number(json["batch"]) +
                   ", bound by " + json["bound_by"].get<std::string>()},
      {"output", number(json["tokens_per_s"]) + " tok/s"},
      {"memory", bytes(json["memory_bytes"]) + ": weights " + bytes(memory["weights"]) + ", KV " +
                     bytes(memory["kv"]) + "; at most " + number(memory["most_sequences"]) + " sequences (" +
                     memory["limited_by"].get<std::string>() + ")"}};
  const bool has_targets = flags.target_tpot_s || flags.target_ttft_s;
  rows.push_back({has_targets ? "most within targets" : "saturates at",
                  most.is_null()
                      ? "not even one request at a time meets the targets"
                      : number(most["requests_per_s"]) + " requests/s a device, batch " +
                            number(most["batch"]) + ", " + number(most["tokens_per_s"]) + " tok/s"});
  if (flags.rate) {
    std::string devices = format_count(json["devices"]);
    if (json["saturated"]) devices += ": one is saturated by this rate";
    if (!json["targets"]["met"].get<bool>())
      devices = "no number meets the targets; figures are of an idle device";
    rows.push_back({"devices", devices});
  }
  if (flags.price) {
    rows.push_back({"per million tokens", "input " + number(json["usd_per_million_input_tokens"]) +
                                              ", output " + number(json["usd_per_million_output_tokens"]) +
                                              "; all borne by output " +
                                              number(json["usd_per_million_output_tokens_all_borne"])});
  }
  for (const auto& row : rows) std::printf("%-22s %s\n", row[0].c_str(), row[1].c_str());
}

int plan(const PlanFlags& flags) {
  if (flags.rate && flags.batch > 0) throw UsageError("--rate and --batch: give one; a rate has its batch");
  if (flags.compute_share.has_value() != flags.bandwidth_share.has_value())
    throw UsageError("--compute-share and --bandwidth-share: give both");
  const PlannedModel model = model_of(flags);
  const PlannedLoad load = load_of(flags);
  const PlannedDevice device =
      flags.on == "this" ? this_machine(flags, model, load) : from_table(flags, model, load);
  const Json json = plan_json(flags, device, load);
  if (flags.json)
    std::printf("%s\n", json.dump().c_str());
  else
    print_plan(json, flags);
  return kExitDone;
}

}  // namespace

Action declare_plan(Flags& flags) {
  constexpr double kMost = 1e30, kLeast = 1e-9;
  const auto values = std::make_shared<PlanFlags>();
  add_model_argument(flags, values->model, /*required=*/false);
  flags.text("--shape", "NAME", "A known model's shape instead of MODEL, such as llama-3.2-1b",
             values->shape);
  flags.text("--on", "NAME", "The device: this, h100, h200, a100, ...", values->on);
  flags.number("--rate", "Requests a second that arrive at random", values->rate, kLeast, kMost);
  flags.size("--batch", "Without a rate: sequences that decode at a time (default: 1)", values->batch, 1);
  flags.size("--prompt,--input-len", "Tokens of a prompt (default: 512)", values->input_len, 1);
  flags.size("--output-len", "Tokens of an answer (default: 128)", values->output_len, 1);
  flags.size("--depth", "Cached tokens before a decoded one (default: the prompt and half the answer)",
             values->depth);
  flags.duration("--target-tpot", "What a token may take after the first, as 50ms", values->target_tpot_s);
  flags.duration("--target-ttft", "What the first token may take", values->target_ttft_s);
  flags.number("--price", "Price of a device's hour", values->price, 0, kMost);
  flags.number("--price-per-hour", "The same", values->price, 0, kMost);
  flags.number("--compute-share",
               "Share of the peak that compute-bound steps reach (default: measured here, else 0.59)",
               values->compute_share, 0.001, 1);
  flags.number("--bandwidth-share",
               "Share of the bandwidth that memory-bound steps reach (default: measured here, else 0.75)",
               values->bandwidth_share, 0.001, 1);
  flags.dtype("--kv-dtype", "The cache's type: bf16, f32 or, on CPUs, q8_0", values->engine.kv_dtype,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  add_batch_flags(flags, values->engine);
  values->model_flags.add_to(flags);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return plan(*values); };
}

}  // namespace redline
