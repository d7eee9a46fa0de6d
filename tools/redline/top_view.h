// What a server's metrics say of the last moments, for `redline top`.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "tools/load/metrics_page.h"

namespace redline {

/// Figures between two pages. Unknown is nothing: too little happened, or the server does not say.
struct TopView {
  struct Phase {
    std::optional<double> tokens_per_s, mfu, hfu, mbu, sol,
        intensity;  // ratios: while busy, of the last 10 s
  };
  struct Latency {
    std::string name;  // of the metric, without redline_ and _seconds
    std::int64_t count = 0;
    std::optional<double> p50_s, p90_s, p99_s;
  };

  std::string model, device, peak;  // peak: "vendor", or "attainable" where that is unknown
  double interval_s = 0;
  std::optional<double> prompt_tokens_per_s, generated_tokens_per_s, preemptions_per_s;
  std::array<Phase, 2> phases;  // prefill, decode
  std::optional<double> num_running, num_waiting, limit;
  std::optional<double> kv_usage, kv_fragmentation, prefix_hit_ratio;
  std::optional<double> busy, gap, idle;  // shares of the interval
  std::array<Latency, 4> latencies;
};

/// `now` lies `interval_s` after `before`. Latencies and prefix hits are those since `base`.
TopView top_view(const load::MetricsPage& base, const load::MetricsPage& before, const load::MetricsPage& now,
                 double interval_s);

/// Lines for people, each ending in a newline. `span`: what latencies are of: "last minute".
std::string to_text(const TopView& view, const std::string& span);
/// docs/json.md, top.
nlohmann::ordered_json to_json(const TopView& view);

}  // namespace redline
