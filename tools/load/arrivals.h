// When the requests of a load test are sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace redline::load {

enum class Ramp : std::uint8_t { kNone, kLinear, kExponential };

inline constexpr double kAllAtOnce = std::numeric_limits<double>::infinity();

struct Arrivals {
  double rate = kAllAtOnce;  // requests a second, on average
  /// Shape of the gamma distribution of the gaps: 1 is Poisson's, below comes in bursts, above more evenly.
  double burstiness = 1;
  Ramp ramp = Ramp::kNone;              // from ramp_start to ramp_end a second instead of `rate`,
  double ramp_start = 0, ramp_end = 0;  // by the share of the requests that have been sent
};

/// The rate at request `index` of `count`.
double rate_at(const Arrivals& arrivals, std::size_t index, std::size_t count);

/// Seconds after the start at which each of `count` requests is sent, ascending; the first at 0. The gap
/// before request i is gamma distributed with mean 1 / rate_at(i). A function of the seed. Throws
/// std::invalid_argument for rates or a burstiness that are not above 0.
std::vector<double> arrival_times(const Arrivals& arrivals, std::size_t count, std::uint64_t seed);

}  // namespace redline::load
