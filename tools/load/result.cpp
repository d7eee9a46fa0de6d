#include "tools/load/result.h"

#include <cmath>
#include <cstdio>
#include <map>
#include <utility>

#include "engine/meter/format.h"
#include "tools/load/metrics_page.h"

namespace redline::load {
namespace {

using Json = nlohmann::ordered_json;

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// A figure of about three digits.
std::string short_number(double value) { return fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0); }

double per_second(std::int64_t count, const Statistics& s) {
  return s.duration_s > 0 ? static_cast<double>(count) / s.duration_s : 0;
}

void add_summary(Json& json, const char* name, const Summary& summary) {
  const std::pair<const char*, double> figures[] = {
      {"mean", summary.mean}, {"median", summary.median}, {"std", summary.std}, {"p50", summary.p50},
      {"p90", summary.p90},   {"p95", summary.p95},       {"p99", summary.p99}};
  for (const auto& [figure, value] : figures) json[std::string(figure) + "_" + name + "_ms"] = value;
}

std::map<std::string, std::int64_t> errors_of(const DriveResult& outcome) {
  std::map<std::string, std::int64_t> errors;
  for (const RequestRecord& record : outcome.records)
    if (!record.completed) ++errors[record.error];
  return errors;
}

Json utilization_of(const LoadPoint& point) {
  return utilization_between(point.outcome.page_before, point.outcome.page_after, point.outcome.wall_s,
                             point.outcome.pages);
}

std::optional<OutsideView> outside_of(const LoadPoint& point) {
  return point.seen_from_outside ? point.seen_from_outside(point.outcome) : std::nullopt;
}

void add_details(Json& json, const DriveResult& outcome) {
  for (const char* key : {"input_lens", "output_lens", "start_times", "ttfts", "itls", "errors"})
    json[key] = Json::array();
  for (const RequestRecord& record : outcome.records) {
    json["input_lens"].push_back(record.prompt_tokens);
    json["output_lens"].push_back(record.output_tokens);
    json["start_times"].push_back(record.sent_s);
    json["ttfts"].push_back(record.chunks_s.empty() ? 0 : record.ttft_s());
    Json gaps = Json::array();
    for (std::size_t i = 1; i < record.chunks_s.size(); ++i)
      gaps.push_back(record.chunks_s[i] - record.chunks_s[i - 1]);
    json["itls"].push_back(std::move(gaps));
    json["errors"].push_back(record.error);
  }
}

}  // namespace

std::string describe_load(const LoadPoint& point) {
  std::string text;
  if (point.arrivals.ramp != Ramp::kNone)
    text = short_number(point.arrivals.ramp_start) + " to " + short_number(point.arrivals.ramp_end) + " / s";
  else if (std::isfinite(point.arrivals.rate))
    text = short_number(point.arrivals.rate) + " / s";
  if (point.max_concurrency > 0)
    text += (text.empty() ? "" : ", ") + std::to_string(point.max_concurrency) + " at a time";
  return text.empty() ? "all at once" : text;
}

Json to_json(const LoadPoint& point, bool detailed) {
  const Statistics& s = point.statistics;
  const bool ramps = point.arrivals.ramp != Ramp::kNone;
  Json json{{"date", point.date},
            {"backend", point.backend},
            {"label", point.label.empty() ? Json() : Json(point.label)},
            {"model_id", point.model},
            {"tokenizer_id", point.tokenizer},
            {"num_prompts", point.num_prompts}};
  json["request_rate"] = std::isfinite(point.arrivals.rate) ? Json(point.arrivals.rate) : Json("inf");
  json["burstiness"] = point.arrivals.burstiness;
  json["ramp_up_strategy"] =
      ramps ? Json(point.arrivals.ramp == Ramp::kLinear ? "linear" : "exponential") : Json();
  json["ramp_up_start_rps"] = ramps ? Json(point.arrivals.ramp_start) : Json();
  json["ramp_up_end_rps"] = ramps ? Json(point.arrivals.ramp_end) : Json();
  json["max_concurrency"] = point.max_concurrency > 0 ? Json(point.max_concurrency) : Json();
  json["duration"] = s.duration_s;
  json["completed"] = s.completed;
  json["failed"] = s.failed;
  json["total_input_tokens"] = s.prompt_tokens;
  json["total_output_tokens"] = s.output_tokens;
  json["cached_input_tokens"] = s.cached_tokens;
  json["request_throughput"] = per_second(s.completed, s);
  json["request_goodput"] = point.goodput.any() ? Json(per_second(s.good, s)) : Json();
  json["output_throughput"] = per_second(s.output_tokens, s);
  json["total_token_throughput"] = per_second(s.prompt_tokens + s.output_tokens, s);
  json["max_concurrent_requests"] = s.max_concurrent;
  add_summary(json, "ttft", s.ttft_ms);
  add_summary(json, "tpot", s.tpot_ms);
  add_summary(json, "itl", s.itl_ms);
  add_summary(json, "e2el", s.e2el_ms);
  json["failures"] = errors_of(point.outcome);
  json["utilization"] = utilization_of(point);
  const auto seen = outside_of(point);
  json["outside"] = seen ? redline::to_json(*seen) : Json();
  if (detailed) add_details(json, point.outcome);
  return json;
}

std::string to_table(const std::vector<LoadPoint>& points) {
  std::vector<std::vector<std::string>> table{{"load", "done", "failed", "req/s", "good/s", "out tok/s",
                                               "all tok/s", "TTFT ms p50", "p99", "TPOT ms p50", "p99",
                                               "ITL ms p99", "E2EL ms p50", "MFU", "MBU"}};
  std::string failures;
  for (const LoadPoint& point : points) {
    const Statistics& s = point.statistics;
    const Json use = utilization_of(point);
    const auto share = [&use](const char* key) {
      return use.is_object() && use[key].is_number() ? format_percent(use[key].get<double>())
                                                     : std::string(kUnknownText);
    };
    table.push_back({describe_load(point), std::to_string(s.completed), std::to_string(s.failed),
                     short_number(per_second(s.completed, s)),
                     point.goodput.any() ? short_number(per_second(s.good, s)) : std::string(kUnknownText),
                     short_number(per_second(s.output_tokens, s)),
                     short_number(per_second(s.prompt_tokens + s.output_tokens, s)),
                     short_number(s.ttft_ms.p50), short_number(s.ttft_ms.p99), short_number(s.tpot_ms.p50),
                     short_number(s.tpot_ms.p99), short_number(s.itl_ms.p99), short_number(s.e2el_ms.p50),
                     share("mfu"), share("mbu")});
    for (const auto& [error, count] : errors_of(point.outcome))
      failures += std::to_string(count) + " failed: " + error + "\n";
  }
  std::string seen;
  for (const LoadPoint& point : points)
    if (const auto view = outside_of(point)) seen += "\n" + describe_load(point) + ": " + to_text(*view);
  return format_table(table) + failures + seen;
}

}  // namespace redline::load
