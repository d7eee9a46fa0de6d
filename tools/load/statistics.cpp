#include "tools/load/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <stdexcept>

namespace redline::load {
namespace {

constexpr double kMsPerS = 1000;

// Requires a sorted, non-empty sample.
double percentile(const std::vector<double>& sample, double percent) {
  const double rank = percent / 100 * static_cast<double>(sample.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const std::size_t above = std::min(below + 1, sample.size() - 1);
  return sample[below] + (sample[above] - sample[below]) * (rank - static_cast<double>(below));
}

std::int64_t most_at_a_time(const std::vector<RequestRecord>& records) {
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& record : records) {
    if (!record.completed) continue;
    changes.emplace_back(record.sent_s, 1);
    changes.emplace_back(record.chunks_s.back(), -1);
  }
  std::sort(changes.begin(), changes.end());  // at one time, ends come first
  std::int64_t now = 0, most = 0;
  for (const auto& [time, change] : changes) most = std::max(most, now += change);
  return most;
}

}  // namespace

std::optional<double> RequestRecord::tpot_s() const {
  if (output_tokens < 2) return std::nullopt;
  return (e2el_s() - ttft_s()) / static_cast<double>(output_tokens - 1);
}

Summary summarize(std::vector<double> sample) {
  Summary summary;
  if (sample.empty()) return summary;
  std::sort(sample.begin(), sample.end());
  const auto count = static_cast<double>(sample.size());
  summary.mean = std::accumulate(sample.begin(), sample.end(), 0.0) / count;
  double squares = 0;
  for (const double value : sample) squares += (value - summary.mean) * (value - summary.mean);
  summary.std = std::sqrt(squares / count);
  summary.p50 = summary.median = percentile(sample, 50);
  summary.p90 = percentile(sample, 90);
  summary.p95 = percentile(sample, 95);
  summary.p99 = percentile(sample, 99);
  return summary;
}

Goodput Goodput::parse(const std::vector<std::string>& limits) {
  Goodput goodput;
  for (const std::string& limit : limits) {
    char name[8] = {};
    double value = 0;
    int used = 0;
    const bool reads = std::sscanf(limit.c_str(), "%7[a-z0-9]:%lf%n", name, &value, &used) == 2 &&
                       static_cast<std::size_t>(used) == limit.size() && value > 0;
    const std::string key = reads ? name : "";
    if (key == "ttft")
      goodput.ttft_ms = value;
    else if (key == "tpot")
      goodput.tpot_ms = value;
    else if (key == "e2el")
      goodput.e2el_ms = value;
    else
      throw std::invalid_argument("'" + limit + "' is no limit: ttft:MS, tpot:MS or e2el:MS");
  }
  return goodput;
}

bool Goodput::met_by(const RequestRecord& record) const {
  const auto within = [](double seconds, std::optional<double> limit_ms) {
    return !limit_ms || seconds * kMsPerS <= *limit_ms;
  };
  return record.completed && within(record.ttft_s(), ttft_ms) &&
         within(record.tpot_s().value_or(0), tpot_ms) && within(record.e2el_s(), e2el_ms);
}

Statistics statistics_of(const std::vector<RequestRecord>& records, const Goodput& goodput) {
  Statistics s;
  std::vector<double> ttft, tpot, itl, e2el;
  double start = 0, end = 0;
  for (const RequestRecord& record : records) {
    if (!record.completed) {
      ++s.failed;
      continue;
    }
    start = s.completed == 0 ? record.sent_s : std::min(start, record.sent_s);
    end = std::max(end, record.chunks_s.back());
    ++s.completed;
    s.good += goodput.met_by(record) ? 1 : 0;
    s.prompt_tokens += record.prompt_tokens;
    s.cached_tokens += record.cached_tokens;
    s.output_tokens += record.output_tokens;
    ttft.push_back(record.ttft_s() * kMsPerS);
    e2el.push_back(record.e2el_s() * kMsPerS);
    if (const auto each = record.tpot_s()) tpot.push_back(*each * kMsPerS);
    for (std::size_t i = 1; i < record.chunks_s.size(); ++i)
      itl.push_back((record.chunks_s[i] - record.chunks_s[i - 1]) * kMsPerS);
  }
  s.duration_s = end - start;
  s.max_concurrent = most_at_a_time(records);
  s.ttft_ms = summarize(std::move(ttft));
  s.tpot_ms = summarize(std::move(tpot));
  s.itl_ms = summarize(std::move(itl));
  s.e2el_ms = summarize(std::move(e2el));
  return s;
}

}  // namespace redline::load
