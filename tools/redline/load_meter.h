// What an engine under load did: its steps, and its state after each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/weights.h"
#include "tools/load/statistics.h"
#include "tools/redline/session.h"

namespace redline {

/// What one run under load came to. Levels are means over the steps' time while requests waited.
struct LoadOutcome {
  double tokens_per_s = 0;  // generated
  double mfu = 0, mfu_variation = 0;
  double seats = 0;                                            // sequences that ran
  double blocks_used = 0, fragmentation = 0, tokens_held = 0;  // shares of the cache's blocks, slots, slots
  double ttft_ms = 0, itl_p99_ms = 0;
  double prompt_tokens_computed = 0;  // share
};

/// Collects an engine's steps and its state after each.
class LoadMeter {
 public:
  explicit LoadMeter(LoadedModel& model) : meter_(metered_peaks(model), model.weights->stored_bytes) {}

  void add_step(const StepRecord& step, const EngineStats& stats) {
    meter_.add_step(step);
    double flops = 0;
    for (const Counts& counts : step.counts->phase) flops += static_cast<double>(counts.useful_flops());
    steps_.push_back({step.start_ns, step.start_ns + step.wall_ns, flops});
    if (stats.num_waiting == 0) return;
    const auto ns = static_cast<double>(step.wall_ns);
    loaded_ns_ += ns;
    loaded_until_ns_ = step.start_ns + step.wall_ns;
    seats_ += ns * static_cast<double>(stats.num_running);
    blocks_ += ns * stats.kv_usage;
    fragmentation_ += ns * stats.kv_fragmentation;
    held_ += ns * stats.kv_usage * (1 - stats.kv_fragmentation);
  }
  /// Once the engine has ended.
  void put(LoadOutcome& outcome, double wall_s) const {
    double compute_s = 0;
    for (const Phase phase : kAllPhases)
      if (const auto basis = meter_.roofline(phase).basis)
        compute_s += meter_.compute_seconds(phase, *basis).value_or(0);
    outcome.mfu = compute_s / wall_s;
    outcome.mfu_variation = variation();
    if (loaded_ns_ == 0) return;
    outcome.seats = seats_ / loaded_ns_;
    outcome.blocks_used = blocks_ / loaded_ns_;
    outcome.fragmentation = fragmentation_ / loaded_ns_;
    outcome.tokens_held = held_ / loaded_ns_;
  }

 private:
  struct Step {
    std::int64_t start_ns, end_ns;
    double flops;
  };

  // Standard deviation by mean of the FLOPs of quarter seconds while requests waited.
  double variation() const {
    constexpr double kWindowNs = 0.25e9;
    if (steps_.empty()) return 0;
    const auto begin = static_cast<double>(steps_.front().start_ns);
    const auto count = static_cast<std::int64_t>((static_cast<double>(loaded_until_ns_) - begin) / kWindowNs);
    if (count < 2) return 0;
    std::vector<double> windows(static_cast<std::size_t>(count));
    for (const Step& step : steps_) {
      const double first = static_cast<double>(step.start_ns) - begin,
                   last = static_cast<double>(step.end_ns) - begin;
      for (auto i = static_cast<std::int64_t>(first / kWindowNs);
           i < count && static_cast<double>(i) * kWindowNs < last; ++i) {
        const double from = std::max(first, static_cast<double>(i) * kWindowNs);
        const double to = std::min(last, static_cast<double>(i + 1) * kWindowNs);
        windows[static_cast<std::size_t>(i)] += step.flops * (to - from) / (last - first);
      }
    }
    const load::Summary summary = load::summarize(windows);
    return summary.mean > 0 ? summary.std / summary.mean : 0;
  }

  UtilizationMeter meter_;
  std::vector<Step> steps_;
  std::int64_t loaded_until_ns_ = 0;
  double loaded_ns_ = 0;
  double seats_ = 0, blocks_ = 0, fragmentation_ = 0, held_ = 0;
};

}  // namespace redline
