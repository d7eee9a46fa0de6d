// What a load test measures of each request, and the figures made of it.
//
// Definitions, those of vLLM's benchmark: TTFT is from sending to the first chunk; ITL are the gaps between a
// request's chunks, of all requests together; E2EL is from sending to the last chunk; TPOT is
// (E2EL - TTFT) / (output tokens - 1), of requests with two output tokens at least. A chunk is an event with
// choices.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace redline::load {

/// One request as its client saw it. Times are seconds after the run's start.
struct RequestRecord {
  bool completed = false;
  std::string error{};  // why not
  double sent_s = 0;
  std::vector<double> chunks_s{};
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  bool tells_cached = false;  // else cached_tokens is 0, whatever was cached

  double ttft_s() const { return chunks_s.front() - sent_s; }
  double e2el_s() const { return chunks_s.back() - sent_s; }
  /// Nothing for one token.
  std::optional<double> tpot_s() const;
};

/// Of a sample, in its unit; zeros for an empty one. The deviation is the population's; percentiles are
/// interpolated linearly between ranks, as NumPy does.
struct Summary {
  double mean = 0, median = 0, std = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0;
};
Summary summarize(std::vector<double> sample);

/// Milliseconds that a request may take to count as good; nothing: any.
struct Goodput {
  std::optional<double> ttft_ms, tpot_ms, e2el_ms;

  /// "ttft:200" and the like. Throws std::invalid_argument.
  static Goodput parse(const std::vector<std::string>& limits);
  bool any() const { return ttft_ms || tpot_ms || e2el_ms; }
  bool met_by(const RequestRecord& record) const;
};

/// Of a whole run. Tokens and times are of completed requests.
struct Statistics {
  double duration_s = 0;  // from the first request's sending to the last one's end
  std::int64_t completed = 0, failed = 0, good = 0;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  std::int64_t max_concurrent = 0;  // requests under way at one time
  Summary ttft_ms, tpot_ms, itl_ms, e2el_ms;
};
Statistics statistics_of(const std::vector<RequestRecord>& records, const Goodput& goodput);

}  // namespace redline::load
