#include "tools/load/arrivals.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

namespace redline::load {

double rate_at(const Arrivals& arrivals, std::size_t index, std::size_t count) {
  const double progress =
      static_cast<double>(index) / static_cast<double>(std::max<std::size_t>(count, 2) - 1);
  switch (arrivals.ramp) {
    case Ramp::kNone:
      return arrivals.rate;
    case Ramp::kLinear:
      return arrivals.ramp_start + (arrivals.ramp_end - arrivals.ramp_start) * progress;
    case Ramp::kExponential:
      return arrivals.ramp_start * std::pow(arrivals.ramp_end / arrivals.ramp_start, progress);
  }
  return arrivals.rate;
}

std::vector<double> arrival_times(const Arrivals& arrivals, std::size_t count, std::uint64_t seed) {
  const bool ramps = arrivals.ramp != Ramp::kNone;
  if (!(arrivals.burstiness > 0) ||
      !(ramps ? arrivals.ramp_start > 0 && arrivals.ramp_end > 0 : arrivals.rate > 0))
    throw std::invalid_argument("rates and burstiness must be above 0");
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gap(arrivals.burstiness, 1 / arrivals.burstiness);  // of mean 1
  std::vector<double> times(count, 0);
  for (std::size_t i = 1; i < count; ++i) times[i] = times[i - 1] + gap(random) / rate_at(arrivals, i, count);
  return times;
}

}  // namespace redline::load
