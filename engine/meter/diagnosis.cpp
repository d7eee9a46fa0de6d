#include "engine/meter/diagnosis.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "engine/meter/format.h"

namespace redline {
namespace {

constexpr std::int64_t kBatchFactor = 8;
constexpr double kWorthSaying = 1.05;
constexpr std::size_t kMostSaid = 3;
constexpr std::int64_t kLongContext = 256;  // below, attention hardly counts
constexpr double kLowClock = 0.95;

// The sum of the waterfall's terms but gap and idle.
double busy_s(const Waterfall& phase) { return phase.wall_s() - phase[Term::kIdle] - phase[Term::kGap]; }

Cause cause_of(const Waterfall& phase, const Counts& counts) {
  const Term loss = phase.largest_loss();
  if (phase[loss] <= phase[Term::kIdealCompute]) return Cause::kCompute;
  switch (loss) {
    case Term::kIdle:
    case Term::kGap:
      return Cause::kGap;
    case Term::kExposedCommunication:
      return Cause::kCommunication;
    case Term::kWaste:
      return Cause::kWaste;
    case Term::kMemoryBoundPenalty:
      return counts.weights >= counts.kv_read + counts.kv_write ? Cause::kWeightReads : Cause::kKvReads;
    case Term::kClockLoss:
      return Cause::kClock;
    default:
      return Cause::kKernels;
  }
}

double share_of(Cause cause, const Waterfall& phase, const PhaseTotals& totals, const Peaks& peaks) {
  const double wall_s = phase.wall_s();
  switch (cause) {
    case Cause::kGap:
      return phase[Term::kGap] / wall_s;
    case Cause::kCommunication:
      return phase[Term::kExposedCommunication] / wall_s;
    case Cause::kWaste:
      return phase[Term::kWaste] / wall_s;
    case Cause::kClock:
      return phase[Term::kClockLoss] / wall_s;
    case Cause::kCompute:
      return phase[Term::kIdealCompute] / busy_s(phase);
    case Cause::kKernels:
      return 1 - phase[Term::kKernelInefficiency] / busy_s(phase);
    case Cause::kWeightReads:
    case Cause::kKvReads:
      break;
  }
  return static_cast<double>(totals.counts.min_bytes()) / peaks.bandwidth / busy_s(phase);
}

std::string name_of(const StepShape& step) {
  if (step.phase == Phase::kDecode)
    return "decode at batch " + std::to_string(step.batch) +
           (step.depth >= kLongContext ? ", " + format_count(step.depth) + " tokens deep," : "");
  return "prefill of " + format_count(step.num_new) + (step.num_new == 1 ? " token" : " tokens") + " a step";
}

std::string times(double factor) {
  char text[32];
  std::snprintf(text, sizeof text, factor < 9.95 ? "%.1fx" : "%.0fx", factor);
  return text;
}

}  // namespace

std::vector<Counterfactual> counterfactuals(const StepModel& steps, const StepShape& shape,
                                            const DiagnosedModel& model) {
  const Estimate estimate = model.estimate();
  const std::optional<PredictedStep> now = steps.predict(shape, estimate);
  std::vector<Counterfactual> found;
  if (!now) return found;
  struct Change {
    std::string words;
    const char* field;
    std::int64_t number = 0;
    std::string name{};
  };
  const auto add = [&](const Change& change, const StepShape& then, const std::optional<PredictedStep>& step,
                       double gap_s) {
    if (!step) return;
    const double rows = static_cast<double>(then.rows()) / static_cast<double>(shape.rows());
    found.push_back({change.words, rows * now->wall_s() / (step->busy_s + gap_s), step->at_least,
                     change.field, change.number, change.name});
  };
  StepShape wider = shape, shallower = shape;
  if (shape.phase == Phase::kDecode) {
    wider.batch *= kBatchFactor;
    add({"batch " + format_count(wider.batch), "batch", wider.batch}, wider, steps.predict(wider, estimate),
        now->gap_s);
  } else {
    wider.num_new *= kBatchFactor;
    add({format_count(wider.num_new) + " tokens a step", "step_tokens", wider.num_new}, wider,
        steps.predict(wider, estimate), now->gap_s);
  }
  for (const DType type : model.weight_types) {
    StoredWeights stored = stored_weights(model.config, type);
    if (stored.bytes() >= model.weights.bytes()) continue;
    const Estimate narrower(model.config, stored, model.kv_dtype, model.compute_of);
    add({std::string(traits(type).name) + " weights", "dtype", 0, traits(type).name}, shape,
        steps.predict(shape, narrower), now->gap_s);
  }
  for (const DType type : model.kv_types) {
    const Estimate narrower(model.config, model.weights, type, model.compute_of);
    if (narrower.kv_bytes_per_token() >= estimate.kv_bytes_per_token()) continue;
    std::optional<PredictedStep> step = steps.predict(shape, narrower);
    if (step) step->at_least = true;  // attention that widens its cache is not the one that was measured
    add({std::string(traits(type).name) + " cache", "kv_dtype", 0, traits(type).name}, shape, step,
        now->gap_s);
  }
  if (shape.depth >= kLongContext) {
    shallower.depth /= 2;
    add({"half the context", "depth", shallower.depth}, shallower, steps.predict(shallower, estimate),
        now->gap_s);
  }
  add({"no gap", "gap"}, shape, now, 0);
  add({"kernels at their roofline", "kernels", 0, "roofline"}, shape, steps.at_roofline(shape, estimate),
      now->gap_s);
  return found;
}

std::vector<Diagnosis> diagnose(const PhaseTotalsArray& totals, const WindowWaterfall& window,
                                const DevicePeaks& device, const DiagnosedModel& model) {
  const Peaks peaks = window.basis == PeakBasis::kVendor ? device.vendor() : device.attainable();
  const StepModel steps(totals, model.estimate(), peaks);
  std::vector<Diagnosis> found;
  for (const Phase phase : kAllPhases) {
    const auto p = static_cast<std::size_t>(phase);
    const std::optional<StepShape> shape = mean_step(totals[p], phase, model.estimate());
    if (!shape || busy_s(window.phases[p]) <= 0) continue;
    Diagnosis diagnosis{.step = *shape, .would_give = {}};
    diagnosis.cause = cause_of(window.phases[p], totals[p].counts);
    diagnosis.share = share_of(diagnosis.cause, window.phases[p], totals[p], peaks);
    diagnosis.would_give = counterfactuals(steps, *shape, model);
    std::ranges::stable_sort(diagnosis.would_give, std::ranges::greater(), &Counterfactual::speedup);
    found.push_back(std::move(diagnosis));
  }
  return found;
}

std::string Diagnosis::sentence() const {
  const std::string percent = format_percent(share), of_wall = percent + " of the time";
  std::string text = name_of(step);
  switch (cause) {
    case Cause::kGap:
      text += " waits for the host " + of_wall;
      break;
    case Cause::kCommunication:
      text += " waits for other devices " + of_wall;
      break;
    case Cause::kWaste:
      text += " computes in vain " + of_wall;
      break;
    case Cause::kClock:
      text += " loses " + of_wall + " to a clock below the nominal one";
      break;
    case Cause::kWeightReads:
      text += " is bound by weight reads (" + percent + " of the bandwidth floor)";
      break;
    case Cause::kKvReads:
      text += " is bound by reads of the KV cache (" + percent + " of the bandwidth floor)";
      break;
    case Cause::kKernels:
      text += " is bound by its kernels (" + percent + " of their roofline)";
      break;
    case Cause::kCompute:
      text += " is bound by compute (" + percent + " of the peak)";
      break;
  }
  const char* separator = "; ";
  for (const Counterfactual& each : std::span(would_give).first(std::min(kMostSaid, would_give.size()))) {
    if (each.speedup <= kWorthSaying) break;
    text += separator + each.change + " would give " + (each.at_most ? "at most " : "") + times(each.speedup);
    separator = ", ";
  }
  return text;
}

std::vector<std::string> notes(const DiagnosedModel& model, const DevicePeaks& device,
                               std::optional<double> clock) {
  const ModelConfig& c = model.config;
  std::vector<std::string> found;
  const ComputeType type = model.compute_of(OpKind::kLinear, model.weights.head);
  const bool is_8_bit = type == ComputeType::kInt8;
  const bool is_16_bit =
      type == ComputeType::kBF16 || type == ComputeType::kF16 || type == ComputeType::kInt16;
  const std::int64_t tile = is_8_bit ? 16 : is_16_bit ? 8 : 1;
  const struct {
    const char* name;
    std::int64_t size;
  } kSizes[] = {{"hidden size", c.hidden_size},
                {"head dimension", c.head_dim},
                {"QKV width", c.qkv_size()},
                {"FFN width", c.ffn_size},
                {"vocabulary", c.vocab_size}};
  for (const auto& each : kSizes)
    if (each.size % tile != 0)
      found.push_back(std::string(each.name) + " " + format_count(each.size) + " is no multiple of " +
                      std::to_string(tile) + ", the tile of " +
                      kComputeTypeNames[static_cast<std::size_t>(type)] + " arithmetic");
  if (model.packed_bytes > 0 && model.packed_bytes <= device.llc_bytes)
    found.push_back("the last-level cache (" + format_si(static_cast<double>(device.llc_bytes), "B") +
                    ") holds the weights (" + format_si(static_cast<double>(model.packed_bytes), "B") +
                    "): bandwidth is the cache's");
  if (clock && *clock < kLowClock)
    found.push_back("the device's clock was at " + format_percent(*clock) + " of the nominal one");
  return found;
}

nlohmann::ordered_json to_json(const Diagnosis& diagnosis) {
  nlohmann::ordered_json changes = nlohmann::ordered_json::array();
  for (const Counterfactual& each : diagnosis.would_give)
    changes.push_back({{"change", each.change}, {"speedup", each.speedup}, {"at_most", each.at_most}});
  return {{"phase", kPhaseNames[static_cast<int>(diagnosis.step.phase)]},
          {"batch", diagnosis.step.batch},
          {"num_new", diagnosis.step.num_new},
          {"depth", diagnosis.step.depth},
          {"cause", kCauseNames[static_cast<std::size_t>(diagnosis.cause)]},
          {"share", diagnosis.share},
          {"would_give", std::move(changes)},
          {"sentence", diagnosis.sentence()}};
}

nlohmann::ordered_json finding_json(const Diagnosis& diagnosis) {
  using Json = nlohmann::ordered_json;
  Json changes = Json::array();
  for (const Counterfactual& each : diagnosis.would_give)
    changes.push_back({{"change", {{each.field, each.name.empty() ? Json(each.number) : Json(each.name)}}},
                       {"speedup", each.speedup},
                       {"at_most", each.at_most}});
  return {{"phase", kPhaseNames[static_cast<int>(diagnosis.step.phase)]},
          {"finding", kCauseNames[static_cast<std::size_t>(diagnosis.cause)]},
          {"value", diagnosis.share},
          {"sentence", diagnosis.sentence()},
          {"counterfactuals", std::move(changes)}};
}

}  // namespace redline
