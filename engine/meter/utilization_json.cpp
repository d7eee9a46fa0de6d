#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/meter/utilization.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kNsPerS = 1e9;

Json or_null(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

Json rate_json(const PeakRate& rate) {
  const auto known = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  return {{"vendor", known(rate.vendor)},
          {"attainable", known(rate.attainable)},
          {"source", rate.source.empty() ? Json(nullptr) : Json(rate.source)},
          {"age_s", or_null(rate.age_s)}};
}

Json device_json(const DevicePeaks& device) {
  Json compute = Json::object();
  for (std::size_t i = 0; i < device.compute.size(); ++i)
    compute[kComputeTypeNames[i]] = rate_json(device.compute[i]);
  return {{"name", device.device_name},
          {"threads", device.threads > 0 ? Json(device.threads) : Json(nullptr)},
          {"peaks", {{"compute", compute}, {"bandwidth", rate_json(device.bandwidth)}}}};
}

Json flops_json(const Counts& counts) {
  Json json = {{"useful", counts.useful_flops()}, {"executed", counts.executed_flops()}};
  for (std::size_t i = 0; i < kNumParts; ++i) json[kPartNames[i]] = counts.flops[i];
  Json by_dtype = Json::object();
  for (std::size_t i = 0; i < kNumComputeTypes; ++i)
    if (counts.flops_by_type[i] > 0) by_dtype[kComputeTypeNames[i]] = counts.flops_by_type[i];
  json["by_dtype"] = by_dtype;
  return json;
}

Json bytes_json(const Counts& counts) {
  return {{"min", counts.min_bytes()},         {"weights", counts.weights},
          {"kv_read", counts.kv_read},         {"kv_read_logical", counts.kv_read_logical},
          {"kv_write", counts.kv_write},       {"declared", counts.declared},
          {"activations", counts.activations}, {"wasted", counts.wasted_bytes}};
}

}  // namespace

Json UtilizationMeter::phase_json(Phase phase) const {
  const PhaseTotals& t = totals(phase);
  const Counts& counts = t.counts;
  const double busy_s = t.busy_ns / kNsPerS, wall_s = t.wall_ns / kNsPerS;
  const Roofline line = roofline(phase);
  const auto per_s = [](std::int64_t count, double seconds) {
    return seconds > 0 ? Json(static_cast<double>(count) / seconds) : Json(nullptr);
  };

  Json all_ratios = Json::object();
  for (const TimeBasis time : {TimeBasis::kBusy, TimeBasis::kWall})
    for (const PeakBasis peak : {PeakBasis::kVendor, PeakBasis::kAttainable}) {
      const Ratios r = ratios(phase, time, peak);
      all_ratios[kTimeBasisNames[static_cast<int>(time)]][kPeakBasisNames[static_cast<int>(peak)]] = {
          {"mfu", or_null(r.mfu)}, {"hfu", or_null(r.hfu)}, {"mbu", or_null(r.mbu)}, {"sol", or_null(r.sol)}};
    }
  const Ratios flat = line.basis ? ratios(phase, TimeBasis::kBusy, *line.basis) : Ratios{};

  return {{"steps", t.steps},
          {"tokens", counts.tokens},
          {"wasted_tokens", counts.wasted_tokens},
          {"flops", flops_json(counts)},
          {"bytes", bytes_json(counts)},
          {"mfu_peak_flops_per_s", or_null(line.peak_flops_per_s)},
          {"ratios", all_ratios},
          {"busy_s", busy_s},
          {"wall_s", wall_s},
          {"tokens_per_s", per_s(counts.tokens, wall_s)},
          {"flops_per_s", per_s(counts.useful_flops(), busy_s)},
          {"bytes_per_s", per_s(counts.min_bytes(), busy_s)},
          {"mfu", or_null(flat.mfu)},
          {"mbu", or_null(flat.mbu)},
          {"sol", or_null(flat.sol)},
          {"intensity", or_null(line.intensity)},
          {"balance", or_null(line.balance)},
          {"bound_by", line.bound_by ? Json(line.bound_by) : Json(nullptr)},
          {"peak_basis", line.basis ? Json(kPeakBasisNames[static_cast<int>(*line.basis)]) : Json(nullptr)}};
}

Json UtilizationMeter::to_json(const RunSummary& run) const {
  Json phases = Json::object();
  for (const Phase phase : kAllPhases) phases[kPhaseNames[static_cast<int>(phase)]] = phase_json(phase);
  return {{"device", device_json(peaks_)},
          {"flags", flags()},
          {"wall_s", run.wall_s},
          {"ttft_s", or_null(run.ttft_s)},
          {"phases", phases}};
}

}  // namespace redline
