// What the engine has done since it started, and in the last seconds, as Prometheus reads it
// (docs/metrics.md).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "engine/engine.h"
#include "engine/meter/utilization.h"

namespace redline::server {

/// Thread-safe: the engine's thread adds, the server's reads.
class LiveMeter {
 public:
  LiveMeter(DevicePeaks peaks, std::int64_t weight_bytes);

  /// The engine's StepObserver.
  void add_step(const StepRecord& step);
  void add_request(FinishReason reason, const RequestUsage& usage);
  /// The page, Prometheus' text format 0.0.4. Ratios are those of the last 10 s: over wall time 0 when
  /// nothing ran, over busy time NaN.
  std::string page(const EngineStats& stats) const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Snapshot {
    Clock::time_point time;
    UtilizationMeter meter;
  };

  mutable std::mutex mutex_;
  const Clock::time_point start_ = Clock::now();
  UtilizationMeter meter_;
  std::deque<Snapshot> snapshots_;  // one a second, of the last 10 s and the one before
  double busy_s_ = 0, gap_s_ = 0;
  std::int64_t num_prompt_tokens_ = 0, num_generated_tokens_ = 0;
  std::array<std::int64_t, 5> num_requests_{};  // by FinishReason
};

}  // namespace redline::server
