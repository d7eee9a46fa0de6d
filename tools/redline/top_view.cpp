#include "tools/redline/top_view.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/meter/format.h"
#include "kernels/batch.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
using load::MetricsPage;

constexpr std::pair<const char*, const char*> kLatencies[] = {{"time_to_first_token", "call to first token"},
                                                              {"inter_token_latency", "token to next token"},
                                                              {"e2e_request_latency", "call to answer's end"},
                                                              {"request_queue_time", "queue to first step"}};

std::optional<double> known(std::optional<double> value) {
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<double> growth(const MetricsPage& before, const MetricsPage& now, const std::string& name,
                             const MetricsPage::Labels& labels = {}) {
  const auto later = now.sum(name, labels);
  if (!later) return std::nullopt;
  return *later - before.sum(name, labels).value_or(0);
}

std::optional<double> divided(std::optional<double> above, std::optional<double> below) {
  if (!above || !below || !(*below > 0)) return std::nullopt;
  return *above / *below;
}

/// As Prometheus' histogram_quantile: evenly spread within a range. Of cumulative counts, which grew from
/// `before` to `now`.
std::optional<double> quantile(const std::vector<MetricsPage::Sample>& before,
                               const std::vector<MetricsPage::Sample>& now, double q) {
  const auto below = [&](std::size_t i) { return now[i].value - (i < before.size() ? before[i].value : 0); };
  const auto bound = [&](std::size_t i) { return std::strtod(now[i].labels.at("le").c_str(), nullptr); };
  if (now.size() < 2 || below(now.size() - 1) <= 0) return std::nullopt;
  const double rank = q * below(now.size() - 1);
  std::size_t i = 0;
  while (below(i) < rank) ++i;
  if (i == now.size() - 1) return bound(i - 1);  // beyond the last bound
  const double low = i > 0 ? bound(i - 1) : 0, low_count = i > 0 ? below(i - 1) : 0;
  return low + (bound(i) - low) * (rank - low_count) / (below(i) - low_count);
}

TopView::Latency latency(const MetricsPage& before, const MetricsPage& now, const std::string& name) {
  const std::string metric = "redline_" + name + "_seconds";
  const auto earlier = before.samples(metric + "_bucket"), later = now.samples(metric + "_bucket");
  return {.name = name,
          .count = std::llround(growth(before, now, metric + "_count").value_or(0)),
          .p50_s = quantile(earlier, later, 0.5),
          .p90_s = quantile(earlier, later, 0.9),
          .p99_s = quantile(earlier, later, 0.99)};
}

std::string bar(std::optional<double> share) {
  constexpr int kWidth = 20;
  const int filled = static_cast<int>(std::lround(kWidth * std::clamp(share.value_or(0), 0.0, 1.0)));
  return "[" + std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(kWidth - filled), '.') + "]";
}

std::string number(const std::optional<double>& value) { return format_if_known(value, format_number); }
std::string percent(const std::optional<double>& value) { return format_if_known(value, format_percent); }
std::string count(const std::optional<double>& value) {
  return format_if_known(value, [](double number) { return format_count(std::llround(number)); });
}
std::string duration(const std::optional<double>& value) { return format_if_known(value, format_duration); }

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }
Json count_or_null(const std::optional<double>& value) { return value ? Json(std::llround(*value)) : Json(); }

}  // namespace

TopView top_view(const MetricsPage& base, const MetricsPage& before, const MetricsPage& now,
                 double interval_s) {
  TopView view;
  view.interval_s = interval_s;
  if (const auto info = now.samples("redline_info"); !info.empty()) {
    const auto& labels = info.front().labels;
    if (const auto model = labels.find("model"); model != labels.end()) view.model = model->second;
    if (const auto device = labels.find("device"); device != labels.end()) view.device = device->second;
  }
  view.peak = now.sum("redline_peak_bytes_per_second", {{"source", "vendor"}}) ? "vendor" : "attainable";
  const auto rate = [&](const std::string& name, const MetricsPage::Labels& labels = {}) {
    return divided(growth(before, now, name, labels), interval_s);
  };
  view.prompt_tokens_per_s = rate("redline_prompt_tokens_total");
  view.generated_tokens_per_s = rate("redline_generated_tokens_total");
  view.preemptions_per_s = rate("redline_preemptions_total");
  for (const Phase phase : kAllPhases) {
    const std::string name = kPhaseNames[static_cast<std::size_t>(phase)];
    TopView::Phase& each = view.phases[static_cast<std::size_t>(phase)];
    const auto ratio = [&](const char* metric) {
      return known(now.sum(std::string("redline_") + metric,
                           {{"phase", name}, {"basis", "busy"}, {"peak", view.peak}}));
    };
    each = {.tokens_per_s = rate("redline_tokens_total", {{"phase", name}}),
            .mfu = ratio("mfu"),
            .hfu = ratio("hfu"),
            .mbu = ratio("mbu"),
            .sol = ratio("sol"),
            .intensity = known(now.sum("redline_arithmetic_intensity", {{"phase", name}}))};
  }
  view.num_running = now.sum("redline_requests_running");
  view.num_waiting = now.sum("redline_requests_waiting");
  view.limit = now.sum("redline_requests_limit");
  view.kv_usage = now.sum("redline_kv_usage_ratio");
  view.kv_fragmentation = now.sum("redline_kv_fragmentation_ratio");
  view.prefix_hit_ratio = divided(growth(base, now, "redline_prefix_cache_hits_total"),
                                  growth(base, now, "redline_prefix_cache_queries_total"));
  // A step's time counts when it ends: its share of what ended.
  const auto all = growth(before, now, "redline_time_seconds_total");
  const auto share = [&](const char* state) {
    return divided(growth(before, now, "redline_time_seconds_total", {{"state", state}}), all);
  };
  view.busy = share("busy");
  view.gap = share("gap");
  view.idle = share("idle");
  for (std::size_t i = 0; i < view.latencies.size(); ++i)
    view.latencies[i] = latency(base, now, kLatencies[i].first);
  return view;
}

std::string to_text(const TopView& view, const std::string& span) {
  std::string text = view.model + " on " + view.device + "\n\n";
  std::vector<std::vector<std::string>> rows = {
      {"while busy, last 10 s", "rows/s", "MFU", "HFU", "MBU", "SOL", "FLOP/B"}};
  for (std::size_t p = 0; p < view.phases.size(); ++p) {
    const TopView::Phase& phase = view.phases[p];
    rows.push_back({kPhaseNames[p], number(phase.tokens_per_s), percent(phase.mfu), percent(phase.hfu),
                    percent(phase.mbu), percent(phase.sol), number(phase.intensity)});
  }
  text += format_table(rows) + "of the " + view.peak + " peaks\n\n";
  text += format_table({{"tokens/s", number(view.generated_tokens_per_s) + " generated",
                         number(view.prompt_tokens_per_s) + " of prompts"},
                        {"sequences", count(view.num_running) + " running of " + count(view.limit),
                         count(view.num_waiting) + " waiting"}});
  text += "\n";
  text += format_table({{"KV blocks", bar(view.kv_usage), percent(view.kv_usage) + " in use",
                         percent(view.kv_fragmentation) + " of their slots empty"},
                        {"prefix hits", bar(view.prefix_hit_ratio), percent(view.prefix_hit_ratio),
                         number(view.preemptions_per_s) + " preemptions/s"},
                        {"device busy", bar(view.busy), percent(view.busy),
                         percent(view.gap) + " gap, " + percent(view.idle) + " idle"}});
  rows = {{"latency, " + span, "count", "median", "90 %", "99 %"}};
  for (std::size_t i = 0; i < view.latencies.size(); ++i) {
    const TopView::Latency& each = view.latencies[i];
    rows.push_back({kLatencies[i].second, format_count(each.count), duration(each.p50_s),
                    duration(each.p90_s), duration(each.p99_s)});
  }
  return text + "\n" + format_table(rows);
}

Json to_json(const TopView& view) {
  Json phases = Json::object(), latencies = Json::object();
  for (std::size_t p = 0; p < view.phases.size(); ++p) {
    const TopView::Phase& phase = view.phases[p];
    phases[kPhaseNames[p]] = {{"tokens_per_s", or_null(phase.tokens_per_s)},
                              {"mfu", or_null(phase.mfu)},
                              {"hfu", or_null(phase.hfu)},
                              {"mbu", or_null(phase.mbu)},
                              {"sol", or_null(phase.sol)},
                              {"intensity", or_null(phase.intensity)}};
  }
  for (const TopView::Latency& each : view.latencies)
    latencies[each.name] = {{"count", each.count},
                            {"p50_s", or_null(each.p50_s)},
                            {"p90_s", or_null(each.p90_s)},
                            {"p99_s", or_null(each.p99_s)}};
  return {{"model", view.model},
          {"device", view.device},
          {"interval_s", view.interval_s},
          {"peak_basis", view.peak},
          {"phases", std::move(phases)},
          {"prompt_tokens_per_s", or_null(view.prompt_tokens_per_s)},
          {"generated_tokens_per_s", or_null(view.generated_tokens_per_s)},
          {"running", count_or_null(view.num_running)},
          {"waiting", count_or_null(view.num_waiting)},
          {"limit", count_or_null(view.limit)},
          {"kv_usage", or_null(view.kv_usage)},
          {"kv_fragmentation", or_null(view.kv_fragmentation)},
          {"prefix_hit_ratio", or_null(view.prefix_hit_ratio)},
          {"preemptions_per_s", or_null(view.preemptions_per_s)},
          {"busy", or_null(view.busy)},
          {"gap", or_null(view.gap)},
          {"idle", or_null(view.idle)},
          {"latencies", std::move(latencies)}};
}

}  // namespace redline
