#include "tools/load/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace redline::load {
namespace {

std::vector<double> gaps(const std::vector<double>& times) {
  std::vector<double> result;
  for (std::size_t i = 1; i < times.size(); ++i) result.push_back(times[i] - times[i - 1]);
  return result;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(Arrivals, AnInfiniteRateSendsAllAtOnce) {
  for (const double time : arrival_times({}, 7, 1)) EXPECT_EQ(time, 0);
}

TEST(Arrivals, GapsHaveTheMeanOfTheRateAndTheDeviationOfTheBurstiness) {
  for (const double burstiness : {0.25, 1.0, 9.0}) {
    const auto found = gaps(arrival_times({.rate = 5, .burstiness = burstiness}, 40001, 3));
    EXPECT_NEAR(mean(found), 0.2, 0.2 * 0.05) << burstiness;
    // A gamma distribution's deviation is its mean over the root of its shape.
    EXPECT_NEAR(deviation(found), 0.2 / std::sqrt(burstiness), 0.2 / std::sqrt(burstiness) * 0.05)
        << burstiness;
  }
}

TEST(Arrivals, RampsGoFromTheirFirstRateToTheirLast) {
  const Arrivals linear{.ramp = Ramp::kLinear, .ramp_start = 2, .ramp_end = 10};
  EXPECT_DOUBLE_EQ(rate_at(linear, 0, 5), 2);
  EXPECT_DOUBLE_EQ(rate_at(linear, 2, 5), 6);
  EXPECT_DOUBLE_EQ(rate_at(linear, 4, 5), 10);
  const Arrivals exponential{.ramp = Ramp::kExponential, .ramp_start = 1, .ramp_end = 16};
  EXPECT_DOUBLE_EQ(rate_at(exponential, 0, 5), 1);
  EXPECT_DOUBLE_EQ(rate_at(exponential, 2, 5), 4);
  EXPECT_DOUBLE_EQ(rate_at(exponential, 4, 5), 16);
  EXPECT_DOUBLE_EQ(rate_at(exponential, 0, 1), 1);
}

TEST(Arrivals, AreAscendingAndAFunctionOfTheSeed) {
  const Arrivals arrivals{.rate = 3, .burstiness = 0.5};
  const auto times = arrival_times(arrivals, 500, 11);
  EXPECT_TRUE(std::ranges::is_sorted(times));
  EXPECT_EQ(times, arrival_times(arrivals, 500, 11));
  EXPECT_NE(times, arrival_times(arrivals, 500, 12));
}

TEST(Arrivals, RatesThatNeverArriveAreRefused) {
  EXPECT_THROW(arrival_times({.rate = 0}, 3, 1), std::invalid_argument);
  EXPECT_THROW(arrival_times({.rate = 1, .burstiness = 0}, 3, 1), std::invalid_argument);
  EXPECT_THROW(arrival_times({.ramp = Ramp::kLinear, .ramp_start = 0, .ramp_end = 1}, 3, 1),
               std::invalid_argument);
}

}  // namespace
}  // namespace redline::load
