#include "engine/meter/attribution.h"

#include <algorithm>
#include <cmath>

namespace redline {
namespace {

double bytes_of(const Counts& counts) {
  return static_cast<double>(counts.min_bytes() + counts.wasted_bytes);
}

double share(double part, double whole, double otherwise) { return whole > 0 ? part / whole : otherwise; }

// Of the phase's roofline time, the part that FLOPs alone would take; 0 where a peak is unknown.
double compute_bound_share(const StepCounts& step, std::size_t phase) {
  KindTimes sum;
  for (const KindTimes& kind : step.kinds[phase]) sum += kind;
  const double of_vendor = share(sum.compute_ns_vendor, sum.roofline_ns_vendor, NAN);
  const double known =
      std::isnan(of_vendor) ? share(sum.compute_ns_attainable, sum.roofline_ns_attainable, NAN) : of_vendor;
  return std::isnan(known) ? 0 : std::clamp(known, 0.0, 1.0);
}

}  // namespace

double attributed_busy_ns(const StepCounts& step, Phase phase, std::size_t index) {
  const auto p = static_cast<std::size_t>(phase);
  const Counts &own = step.sequences[index], &all = step.phase[p];
  const double of_tokens = share(static_cast<double>(own.tokens + own.wasted_tokens),
                                 static_cast<double>(all.tokens + all.wasted_tokens), 0);
  const double of_flops =
      share(static_cast<double>(own.executed_flops()), static_cast<double>(all.executed_flops()), of_tokens);
  const double of_bytes = share(bytes_of(own), bytes_of(all), of_tokens);
  const double compute = compute_bound_share(step, p);
  return step.busy_ns[p] * (compute * of_flops + (1 - compute) * of_bytes);
}

}  // namespace redline
