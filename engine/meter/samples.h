// Whether two sets of measurements differ: tests that assume no distribution.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace redline {

double median(std::vector<double> sample);

/// Mann and Whitney's test, one-sided: the chance that `after` would lie as low as it does, or lower, were
/// both of one distribution. Exact without ties for samples of up to 40, else by the normal approximation
/// with ties corrected. 1 where one is empty.
double p_of_lower(std::span<const double> before, std::span<const double> after);
/// The least that p_of_lower can be with so many measurements.
double least_p(std::size_t num_before, std::size_t num_after);

/// Holm's correction: chances of a family of tests, so that the family's chance of any false alarm is what
/// one test's would be. In the order given.
std::vector<double> holm(const std::vector<double>& chances);

/// The median of independent differences or ratios and an interval that holds their distribution's in at
/// least 95 of 100 cases, whatever that distribution: between order statistics, by the sign test. Nothing for
/// fewer than six.
struct MedianInterval {
  double low = 0, median = 0, high = 0;
};
std::optional<MedianInterval> median_interval(std::vector<double> sample);

}  // namespace redline
