#include "engine/meter/samples.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace redline {
namespace {

constexpr std::size_t kMostExact = 40;
constexpr double kMissed = 0.025;  // of each side of an interval

// Ways to choose, of n + m ranks, the n of `after` so that at most `most` pairs have `after` above, by all
// ways.
double exact_share(std::size_t n, std::size_t m, double most) {
  // counts[k][u]: ways for k of `after` and the values of `before` so far to make u pairs.
  std::vector<std::vector<double>> counts(n + 1, std::vector<double>(n * m + 1, 0));
  counts[0][0] = 1;
  for (std::size_t below = 0; below <= m; ++below)  // values of `after` that lie above `below` of `before`
    for (std::size_t k = 1; k <= n; ++k)
      for (std::size_t u = below; u <= n * m; ++u) counts[k][u] += counts[k - 1][u - below];
  double all = 0, low = 0;
  for (std::size_t u = 0; u <= n * m; ++u) {
    all += counts[n][u];
    if (static_cast<double>(u) <= most) low += counts[n][u];
  }
  return low / all;
}

}  // namespace

double median(std::vector<double> sample) {
  if (sample.empty()) return 0;
  std::ranges::sort(sample);
  const std::size_t middle = sample.size() / 2;
  return sample.size() % 2 == 1 ? sample[middle] : (sample[middle - 1] + sample[middle]) / 2;
}

double p_of_lower(std::span<const double> before, std::span<const double> after) {
  const std::size_t m = before.size(), n = after.size();
  if (m == 0 || n == 0) return 1;
  double above = 0;  // pairs in which `after` is above, half of those that tie
  for (const double a : after)
    for (const double b : before) above += a > b ? 1 : a == b ? 0.5 : 0;
  std::vector<double> all(before.begin(), before.end());
  all.insert(all.end(), after.begin(), after.end());
  std::ranges::sort(all);
  double ties = 0;
  for (auto first = all.begin(); first != all.end();) {
    const auto last = std::upper_bound(first, all.end(), *first);
    const auto size = static_cast<double>(last - first);
    ties += size * size * size - size;
    first = last;
  }
  if (ties == 0 && m <= kMostExact && n <= kMostExact) return exact_share(n, m, above);
  const auto pairs = static_cast<double>(m * n), total = static_cast<double>(m + n);
  const double variance = pairs / 12 * (total + 1 - ties / (total * (total - 1)));
  if (variance <= 0) return 1;
  const double z = (above + 0.5 - pairs / 2) / std::sqrt(variance);
  return std::erfc(-z / std::sqrt(2.0)) / 2;
}

double least_p(std::size_t num_before, std::size_t num_after) {
  const auto m = static_cast<double>(num_before), n = static_cast<double>(num_after);
  return std::exp(std::lgamma(m + 1) + std::lgamma(n + 1) - std::lgamma(m + n + 1));
}

std::vector<double> holm(const std::vector<double>& chances) {
  std::vector<std::size_t> order(chances.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return chances[i]; });
  std::vector<double> corrected(chances.size());
  double most = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    most = std::max(most, chances[order[rank]] * static_cast<double>(order.size() - rank));
    corrected[order[rank]] = std::min(1.0, most);
  }
  return corrected;
}

std::optional<MedianInterval> median_interval(std::vector<double> sample) {
  std::ranges::sort(sample);
  const auto n = static_cast<double>(sample.size());
  // The true median lies below the i-th of n (from 0) with the chance of at most i heads in n tosses.
  std::size_t cut = 0;
  double below = 0, tosses = std::exp2(-n);
  for (std::size_t i = 0; i < sample.size() / 2; ++i) {
    below += tosses;
    if (below > kMissed) break;
    cut = i + 1;
    tosses *= (n - static_cast<double>(i)) / static_cast<double>(i + 1);
  }
  if (cut == 0) return std::nullopt;
  const double middle = median(sample);
  return MedianInterval{sample[cut - 1], middle, sample[sample.size() - cut]};
}

}  // namespace redline
