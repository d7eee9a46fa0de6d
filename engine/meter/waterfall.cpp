#include "engine/meter/waterfall.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace redline {
namespace {

constexpr double kSPerNs = 1e-9;
constexpr auto kAllReduce = static_cast<std::size_t>(OpKind::kAllReduce);

struct KindAtPeak {
  double compute_s = 0, roofline_s = 0;
};

KindAtPeak at_peak(const KindTimes& kind, PeakBasis basis) {
  if (basis == PeakBasis::kVendor)
    return {kind.compute_ns_vendor * kSPerNs, kind.roofline_ns_vendor * kSPerNs};
  return {kind.compute_ns_attainable * kSPerNs, kind.roofline_ns_attainable * kSPerNs};
}

// Whether all that ran can be held against the peaks.
bool is_known(const PhaseTotalsArray& totals, const Peaks& peaks, PeakBasis basis) {
  return std::ranges::all_of(totals, [&](const PhaseTotals& t) {
    return t.busy_ns <= 0 || (std::isfinite(t.ideal_ns(basis)) && t.ideal_ns(basis) > 0 &&
                              seconds_at(peaks, t.counts.executed_flops_by_type()));
  });
}

// The share of executed FLOPs, by their time at the peaks, that was in vain. Work of earlier windows that
// proves in vain in this one may outweigh it.
double wasted_share(const Counts& counts, const Peaks& peaks) {
  const double executed = seconds_at(peaks, counts.executed_flops_by_type()).value_or(0);
  if (executed <= 0) return 0;
  return std::clamp(seconds_at(peaks, counts.wasted_flops_by_type).value_or(0) / executed, 0.0, 1.0);
}

// Shares of the wasted FLOPs, by their time at the peaks, that sum to 1; of none, zeros.
std::array<double, kNumWasteCauses> cause_shares(const PhaseTotals& totals, const Peaks& peaks) {
  std::array<double, kNumWasteCauses> shares{};
  double sum = 0;
  for (std::size_t i = 0; i < kNumWasteCauses; ++i) {
    const Counts wasted = wasted_by(totals, static_cast<WasteCause>(i));
    sum += shares[i] = seconds_at(peaks, wasted.wasted_flops_by_type).value_or(0);
  }
  for (double& share : shares) share = sum > 0 ? share / sum : 0;
  return shares;
}

std::vector<KindWaterfall> kinds_of(const PhaseTotals& totals, PeakBasis basis, const BusyWork& phase) {
  std::vector<KindWaterfall> kinds;
  for (std::size_t k = 0; k < kNumOpKinds; ++k) {
    const KindTimes& kind = totals.kinds[k];
    if (kind.busy_ns <= 0) continue;
    const KindAtPeak peak = at_peak(kind, basis);
    const double busy_s = kind.busy_ns * kSPerNs;
    kinds.push_back({static_cast<OpKind>(k), busy_waterfall({.busy_s = busy_s,
                                                             .communication_s = k == kAllReduce ? busy_s : 0,
                                                             .compute_s = peak.compute_s,
                                                             .roofline_s = peak.roofline_s,
                                                             .wasted = phase.wasted,
                                                             .causes = phase.causes,
                                                             .clock = phase.clock})});
  }
  std::ranges::sort(kinds, std::ranges::greater(),
                    [](const KindWaterfall& kind) { return kind.terms.wall_s(); });
  return kinds;
}

// The phase's own: gap and busy terms. Clock loss is found kind by kind, since a phase mixes what computes
// with what waits for memory.
Waterfall phase_waterfall(const PhaseTotals& totals, PeakBasis basis, BusyWork work) {
  const std::optional<double> clock = std::exchange(work.clock, std::nullopt);
  Waterfall phase = busy_waterfall(work);
  phase.clock_is_exposed = clock.has_value();
  for (const KindTimes& kind : totals.kinds) {
    if (!clock) break;
    const KindAtPeak peak = at_peak(kind, basis);
    const double loss_s = (1 - work.wasted) * std::max(0.0, peak.compute_s / *clock - peak.roofline_s);
    phase[Term::kClockLoss] += loss_s;
    phase[Term::kKernelInefficiency] -= loss_s;
  }
  phase[Term::kGap] = totals.wall_ns * kSPerNs - work.busy_s;
  return phase;
}

}  // namespace

double Waterfall::wall_s() const {
  double sum = 0;
  for (const double term : seconds) sum += term;
  return sum;
}

double Waterfall::mfu() const {
  const double wall = wall_s();
  return wall > 0 ? (*this)[Term::kIdealCompute] / wall : 0;
}

Term Waterfall::largest_loss() const {
  return static_cast<Term>(std::max_element(seconds.begin(), seconds.end() - 1) - seconds.begin());
}

Waterfall& Waterfall::operator+=(const Waterfall& other) {
  for (std::size_t i = 0; i < seconds.size(); ++i) seconds[i] += other.seconds[i];
  for (std::size_t i = 0; i < waste_seconds.size(); ++i) waste_seconds[i] += other.waste_seconds[i];
  clock_is_exposed = clock_is_exposed && other.clock_is_exposed;
  return *this;
}

Waterfall busy_waterfall(const BusyWork& work) {
  const double useful = 1 - work.wasted, device_s = work.busy_s - work.communication_s;
  Waterfall terms;
  terms.clock_is_exposed = work.clock.has_value();
  terms[Term::kExposedCommunication] = work.communication_s;
  terms[Term::kWaste] = work.wasted * device_s;
  for (std::size_t i = 0; i < kNumWasteCauses; ++i)
    terms.waste_seconds[i] = work.causes[i] * terms[Term::kWaste];
  terms[Term::kMemoryBoundPenalty] = useful * (work.roofline_s - work.compute_s);
  if (work.clock)
    terms[Term::kClockLoss] = useful * std::max(0.0, work.compute_s / *work.clock - work.roofline_s);
  terms[Term::kKernelInefficiency] = useful * (device_s - work.roofline_s) - terms[Term::kClockLoss];
  terms[Term::kIdealCompute] = useful * work.compute_s;
  return terms;
}

std::optional<WindowWaterfall> waterfall_of(const PhaseTotalsArray& totals, const DevicePeaks& device,
                                            double wall_s, double idle_s, std::optional<double> clock) {
  for (const PeakBasis basis : {PeakBasis::kVendor, PeakBasis::kAttainable}) {
    const Peaks peaks = basis == PeakBasis::kVendor ? device.vendor() : device.attainable();
    if (!is_known(totals, peaks, basis)) continue;
    WindowWaterfall window{.basis = basis, .whole = {}, .phases = {}, .kinds = {}};
    window.whole.clock_is_exposed = clock.has_value();
    for (std::size_t p = 0; p < kNumPhases; ++p) {
      if (totals[p].busy_ns <= 0) continue;
      const BusyWork work{
          .busy_s = totals[p].busy_ns * kSPerNs,
          .communication_s = totals[p].kinds[kAllReduce].busy_ns * kSPerNs,
          .compute_s = seconds_at(peaks, totals[p].counts.executed_flops_by_type()).value_or(0),
          .roofline_s = totals[p].ideal_ns(basis) * kSPerNs,
          .wasted = wasted_share(totals[p].counts, peaks),
          .causes = cause_shares(totals[p], peaks),
          .clock = clock};
      window.phases[p] = phase_waterfall(totals[p], basis, work);
      window.kinds[p] = kinds_of(totals[p], basis, work);
      window.whole += window.phases[p];
    }
    window.whole[Term::kGap] += wall_s - idle_s - window.whole.wall_s();
    window.whole[Term::kIdle] = idle_s;
    return window;
  }
  return std::nullopt;
}

}  // namespace redline
