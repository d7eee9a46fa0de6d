#include "engine/meter/utilization.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/engine.h"

namespace redline {
namespace {

constexpr double kNsPerS = 1e9;
std::optional<double> memory_s(std::int64_t bytes, const Peaks& peaks) {
  if (peaks.bandwidth <= 0) return std::nullopt;
  return static_cast<double>(bytes) / peaks.bandwidth;
}

std::optional<double> ratio(std::optional<double> numerator, double denominator) {
  if (!numerator || !std::isfinite(*numerator) || denominator <= 0) return std::nullopt;
  return *numerator / denominator;
}

// Of the work, what was useful.
Counts useful_of(const Counts& counts) {
  Counts useful;
  useful.tokens = counts.tokens;
  useful.flops = counts.flops;
  useful.flops_by_type = counts.flops_by_type;
  useful.weights = counts.weights;
  useful.kv_read = counts.kv_read;
  useful.kv_write = counts.kv_write;
  return useful;
}

// Of the work, what was not.
Counts wasted_of(const Counts& counts) {
  Counts wasted;
  wasted.wasted_tokens = counts.wasted_tokens;
  wasted.wasted_flops = counts.wasted_flops;
  wasted.wasted_flops_by_type = counts.wasted_flops_by_type;
  wasted.wasted_bytes = counts.wasted_bytes;
  return wasted;
}

}  // namespace

Counts wasted_by(const PhaseTotals& totals, WasteCause cause) {
  if (cause == WasteCause::kPadding) return totals.padding;
  if (cause == WasteCause::kAborted) return totals.aborted;
  Counts recomputed = wasted_of(totals.counts);
  recomputed -= totals.aborted;
  recomputed -= totals.padding;
  return recomputed;
}

double PhaseTotals::ideal_ns(PeakBasis basis) const {
  return basis == PeakBasis::kVendor ? ideal_ns_vendor : ideal_ns_attainable;
}

PhaseTotals& PhaseTotals::operator-=(const PhaseTotals& earlier) {
  steps -= earlier.steps;
  counts -= earlier.counts;
  aborted -= earlier.aborted;
  padding -= earlier.padding;
  busy_ns -= earlier.busy_ns;
  wall_ns -= earlier.wall_ns;
  ideal_ns_vendor -= earlier.ideal_ns_vendor;
  ideal_ns_attainable -= earlier.ideal_ns_attainable;
  for (std::size_t k = 0; k < kinds.size(); ++k) kinds[k] -= earlier.kinds[k];
  return *this;
}

UtilizationMeter::UtilizationMeter(DevicePeaks peaks, std::int64_t weight_bytes,
                                   const PhaseTotalsArray& totals)
    : peaks_(std::move(peaks)),
      by_basis_{peaks_.vendor(), peaks_.attainable()},
      weight_bytes_(weight_bytes),
      totals_(totals) {}

void UtilizationMeter::add_step(const StepCounts& step, const StepTiming& timing) {
  const double busy_ns = step.busy_ns[0] + step.busy_ns[1];
  const double wall_ns = static_cast<double>(timing.wall_ns + timing.gap_ns);
  const std::int64_t rows[kNumPhases] = {step.phase[0].tokens + step.phase[0].wasted_tokens,
                                         step.phase[1].tokens + step.phase[1].wasted_tokens};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    if (rows[p] == 0) continue;
    PhaseTotals& t = totals_[p];
    t.counts += step.phase[p];
    t.steps += step.phase[p].tokens > 0 ? 1 : 0;
    t.busy_ns += step.busy_ns[p];
    t.wall_ns +=
        wall_ns * (busy_ns > 0 ? step.busy_ns[p] / busy_ns
                               : static_cast<double>(rows[p]) / static_cast<double>(rows[0] + rows[1]));
    const auto known = [](double ns) { return ns > 0 ? ns : std::numeric_limits<double>::quiet_NaN(); };
    t.ideal_ns_vendor += known(step.ideal_ns_vendor[p]);
    t.ideal_ns_attainable += known(step.ideal_ns_attainable[p]);
    for (std::size_t k = 0; k < kNumOpKinds; ++k)
      if (step.kind_calls[k] > 0) t.kinds[k] += step.kinds[p][k];
  }
}

void UtilizationMeter::add_step(const StepRecord& record) {
  add_step(*record.counts, {.wall_ns = record.wall_ns, .gap_ns = record.gap_ns});
  PhaseTotals& decode = totals_[static_cast<std::size_t>(Phase::kDecode)];
  decode.counts += record.padding;
  decode.padding += record.padding;
  for (const Phase phase : kAllPhases) {
    const Counts& wasted = record.wasted_since[static_cast<std::size_t>(phase)];
    if (wasted != Counts{}) reclassify_as_wasted(wasted, phase);
  }
}

void UtilizationMeter::reclassify_as_wasted(const Counts& counts, Phase phase, std::int64_t whole_steps) {
  PhaseTotals& t = totals_[static_cast<std::size_t>(phase)];
  t.aborted += useful_of(counts).as_wasted();
  t.counts -= counts;
  t.counts += counts.as_wasted();
  t.steps -= whole_steps;
}

void UtilizationMeter::reset() { totals_ = {}; }

Ratios UtilizationMeter::ratios(Phase phase, TimeBasis time, PeakBasis peak) const {
  const PhaseTotals& t = totals(phase);
  const Peaks& peaks = by_basis_[static_cast<int>(peak)];
  const double seconds = (time == TimeBasis::kBusy ? t.busy_ns : t.wall_ns) / kNsPerS;
  return {.mfu = ratio(seconds_at(peaks, t.counts.flops_by_type), seconds),
          .hfu = ratio(seconds_at(peaks, t.counts.executed_flops_by_type()), seconds),
          .mbu = ratio(memory_s(t.counts.min_bytes(), peaks), seconds),
          .sol = ratio(t.ideal_ns(peak) / kNsPerS, seconds)};
}

Roofline UtilizationMeter::roofline(Phase phase) const {
  const Counts& counts = totals(phase).counts;
  const double flops = static_cast<double>(counts.useful_flops());
  const double bytes = static_cast<double>(counts.min_bytes());
  Roofline r;
  if (bytes > 0) r.intensity = flops / bytes;
  if (flops <= 0) return r;
  for (const PeakBasis basis : {PeakBasis::kVendor, PeakBasis::kAttainable}) {
    const Peaks& peaks = by_basis_[static_cast<int>(basis)];
    const std::optional<double> compute = seconds_at(peaks, counts.flops_by_type);
    const std::optional<double> memory = memory_s(counts.min_bytes(), peaks);
    if (!compute || !memory) continue;
    r.basis = basis;
    r.peak_flops_per_s = flops / *compute;
    r.balance = *r.peak_flops_per_s / peaks.bandwidth;
    r.bound_by = *compute > *memory ? "compute" : "memory";
    break;
  }
  return r;
}

std::optional<double> UtilizationMeter::compute_seconds(Phase phase, PeakBasis peak) const {
  return seconds_at(by_basis_[static_cast<int>(peak)], totals(phase).counts.flops_by_type);
}

std::vector<std::string> UtilizationMeter::flags() const {
  bool above_bandwidth = false, above_compute = false;
  for (const Phase phase : kAllPhases)
    for (const PeakBasis basis : {PeakBasis::kVendor, PeakBasis::kAttainable}) {
      const Ratios r = ratios(phase, TimeBasis::kBusy, basis);
      above_bandwidth |= r.mbu.value_or(0) > 1;
      above_compute |= r.hfu.value_or(0) > 1;
    }
  std::vector<std::string> flags;
  if (above_bandwidth) flags.push_back(weight_bytes_ <= peaks_.llc_bytes ? "cache_resident" : "stale_peak");
  if (above_compute) flags.push_back("above_compute_peak");
  return flags;
}

}  // namespace redline
