#include "tools/load/metrics_page.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace redline::load {
namespace {

using Json = nlohmann::ordered_json;

Json number_or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json();
}

Json count_or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(std::llround(*value)) : Json();
}

std::optional<double> quotient(std::optional<double> above, std::optional<double> below) {
  if (!above || !below || !(*below > 0)) return std::nullopt;
  return *above / *below;
}

/// `{key="value",...}`, with \\, \" and \n escaped in values; empty where it is not well formed.
MetricsPage::Labels parse_labels(std::string_view text) {
  MetricsPage::Labels labels;
  while (!text.empty()) {
    const auto equals = text.find("=\"");
    if (equals == std::string_view::npos) return {};
    const std::string key(text.substr(0, equals));
    text.remove_prefix(equals + 2);
    std::string value;
    std::size_t i = 0;
    for (; i < text.size() && text[i] != '"'; ++i) {
      const bool escaped = text[i] == '\\' && i + 1 < text.size();
      if (escaped) ++i;
      value += escaped && text[i] == 'n' ? '\n' : text[i];
    }
    labels[key] = std::move(value);
    text.remove_prefix(std::min(i + 1, text.size()));
    if (text.starts_with(',')) text.remove_prefix(1);
  }
  return labels;
}

/// Counters' growth from one page to another.
class Growth {
 public:
  Growth(const MetricsPage& before, const MetricsPage& after) : before_(before), after_(after) {}
  std::optional<double> of(const std::string& name, const MetricsPage::Labels& labels = {}) const {
    const auto now = after_.sum(name, labels);
    if (!now) return std::nullopt;
    return *now - before_.sum(name, labels).value_or(0);
  }

 private:
  const MetricsPage &before_, &after_;
};

struct Work {
  std::optional<double> flops, bytes, compute_s[2];  // compute_s by peak: vendor, attainable
};

constexpr const char* kPeaks[] = {"vendor", "attainable"};

Work work_of(const Growth& growth, const std::string& phase) {
  Work work;
  work.flops = growth.of("redline_flops_total", {{"phase", phase}, {"work", "useful"}});
  for (const char* part : {"weights", "kv_read", "kv_write"})
    if (const auto bytes = growth.of("redline_bytes_total", {{"phase", phase}, {"part", part}}))
      work.bytes = work.bytes.value_or(0) + *bytes;
  for (int peak = 0; peak < 2; ++peak)
    work.compute_s[peak] =
        growth.of("redline_compute_seconds_total", {{"phase", phase}, {"peak", kPeaks[peak]}});
  return work;
}

std::optional<double> plus(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return std::nullopt;
  return *a + *b;
}

}  // namespace

MetricsPage::MetricsPage(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto space = line.rfind(' ');
    if (line.starts_with('#') || space == std::string_view::npos) continue;
    Sample sample;
    const std::string_view head = line.substr(0, space);
    const auto brace = head.find('{');
    sample.name = std::string(head.substr(0, brace));
    if (brace != std::string_view::npos && head.ends_with('}'))
      sample.labels = parse_labels(head.substr(brace + 1, head.size() - brace - 2));
    const std::string value(line.substr(space + 1));
    char* end = nullptr;
    sample.value = std::strtod(value.c_str(), &end);
    if (end != value.c_str()) samples_.push_back(std::move(sample));
  }
}

std::optional<double> MetricsPage::sum(const std::string& name, const Labels& labels) const {
  std::optional<double> total;
  for (const Sample& sample : samples_) {
    const auto has = [&](const auto& label) {
      const auto found = sample.labels.find(label.first);
      return found != sample.labels.end() && found->second == label.second;
    };
    if (sample.name == name && std::ranges::all_of(labels, has)) total = total.value_or(0) + sample.value;
  }
  return total;
}

std::vector<MetricsPage::Sample> MetricsPage::samples(const std::string& name) const {
  std::vector<Sample> found;
  std::ranges::copy_if(samples_, std::back_inserter(found),
                       [&](const Sample& each) { return each.name == name; });
  return found;
}

Json utilization_between(const std::string& before_text, const std::string& after_text, double wall_s,
                         const std::vector<std::string>& during) {
  if (before_text.empty() || after_text.empty()) return Json();
  const MetricsPage before(before_text), after(after_text);
  if (!after.sum("redline_flops_total")) return Json();  // another server's
  const Growth growth(before, after);
  const Work works[] = {work_of(growth, "prefill"), work_of(growth, "decode")};
  std::optional<double> bandwidth[2];
  for (int peak = 0; peak < 2; ++peak)
    bandwidth[peak] = after.sum("redline_peak_bytes_per_second", {{"source", kPeaks[peak]}});
  const auto ratios = [&](const Work& work, int peak) {
    return Json{{"mfu", number_or_null(quotient(work.compute_s[peak], wall_s))},
                {"mbu", number_or_null(quotient(quotient(work.bytes, bandwidth[peak]), wall_s))}};
  };
  const auto phase = [&](const Work& work) {
    return Json{{"flops", count_or_null(work.flops)},
                {"bytes", count_or_null(work.bytes)},
                {"ratios", {{"vendor", ratios(work, 0)}, {"attainable", ratios(work, 1)}}}};
  };
  Work both{plus(works[0].flops, works[1].flops), plus(works[0].bytes, works[1].bytes), {}};
  for (int peak = 0; peak < 2; ++peak)
    both.compute_s[peak] = plus(works[0].compute_s[peak], works[1].compute_s[peak]);
  const int basis = both.compute_s[0] && bandwidth[0] ? 0 : 1;

  std::optional<double> kv_usage_max, kv_utilization;
  double utilization_sum = 0;
  int num_busy_pages = 0;
  for (const std::string& text : during) {
    const MetricsPage page(text);
    const auto usage = page.sum("redline_kv_usage_ratio");
    if (usage) kv_usage_max = std::max(kv_usage_max.value_or(0), *usage);
    const auto fragmentation = page.sum("redline_kv_fragmentation_ratio");
    if (!fragmentation || !usage || *usage <= 0) continue;
    utilization_sum += 1 - *fragmentation;
    ++num_busy_pages;
  }
  if (num_busy_pages > 0) kv_utilization = utilization_sum / num_busy_pages;

  Json result{{"wall_s", wall_s}, {"peak_basis", kPeaks[basis]}};
  result.update(ratios(both, basis));
  result["phases"] = {{"prefill", phase(works[0])}, {"decode", phase(works[1])}};
  for (const char* state : {"busy", "gap", "idle"})
    result[std::string(state) + "_s"] =
        number_or_null(growth.of("redline_time_seconds_total", {{"state", state}}));
  result["kv_usage_max"] = number_or_null(kv_usage_max);
  result["kv_block_utilization"] = number_or_null(kv_utilization);
  result["prefix_hit_ratio"] = number_or_null(quotient(growth.of("redline_prefix_cache_hits_total"),
                                                       growth.of("redline_prefix_cache_queries_total")));
  result["preemptions"] = count_or_null(growth.of("redline_preemptions_total"));
  return result;
}

}  // namespace redline::load
