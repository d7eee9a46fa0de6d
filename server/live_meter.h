// What the engine has done since it started, and in the last seconds.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "engine/engine.h"
#include "engine/meter/meter_cost.h"
#include "engine/meter/utilization.h"
#include "server/prometheus.h"

namespace redline::server {

/// One step, as a point on the roofline.
struct StepPoint {
  std::int64_t serial = 0;  // 1 for the first step
  std::int64_t end_ns = 0;  // steady clock
  std::int64_t prefill_tokens = 0, decode_tokens = 0, num_sequences = 0;
  std::int64_t useful_flops = 0, min_bytes = 0;
  double busy_ns = 0;
  std::int64_t wall_ns = 0, gap_ns = 0;
};

/// A reading of a LiveMeter.
struct LiveReading {
  /// Since the start. Counters never fall: work that proves in vain after it was published as useful is taken
  /// from the useful work that follows.
  PhaseTotalsArray totals;
  /// Of the last 10 s, and how long they were: up to a step longer, less while the meter is younger.
  PhaseTotalsArray window;
  double window_s = 0;
  /// All time since the start: no work; work queued while the device did not execute; the device executed.
  double idle_s = 0, gap_s = 0, busy_s = 0;
  double meter_s = 0;  // of them, that metering took
  Histogram iteration_tokens{token_bounds()};
};

/// A stretch of time that ended when it was read.
struct LiveWindow {
  PhaseTotalsArray totals;
  double wall_s = 0, idle_s = 0;  // up to a step longer than asked for, less while the meter is younger
};

/// The engine's thread adds steps, another reads: neither holds the other up for more than the copying of a
/// reading. Times are the steady clock's, in nanoseconds.
class LiveMeter {
 public:
  static constexpr std::int64_t kWindowNs = 10'000'000'000;
  static constexpr std::int64_t kLongestWindowNs = 60'000'000'000;
  static constexpr std::size_t kNumPoints = 128;

  /// `now_ns`: when the first step may begin.
  LiveMeter(DevicePeaks peaks, std::int64_t weight_bytes, std::int64_t now_ns, MeterCost cost = {});

  /// The engine's StepObserver.
  void add_step(const StepRecord& step);
  /// `working`: the engine has work at `now_ns`, so that the time since the last step is not idle.
  LiveReading read(std::int64_t now_ns, bool working);
  /// The last `length_ns`, kLongestWindowNs at most; `working` as above.
  LiveWindow window(std::int64_t now_ns, std::int64_t length_ns, bool working) const;
  /// The last steps after that with number `serial`, oldest first.
  std::vector<StepPoint> steps_since(std::int64_t serial) const;
  /// Ratios of such totals.
  UtilizationMeter meter_of(const PhaseTotalsArray& totals) const {
    return UtilizationMeter(peaks_, weight_bytes_, totals);
  }
  const DevicePeaks& peaks() const { return peaks_; }

 private:
  // The totals from one step's end to the next one's start: idle at first, then perhaps a gap.
  struct Pause {
    std::int64_t from_ns = 0, idle_until_ns = 0, until_ns = 0;
    double idle_before_ns = 0;  // of all time
    PhaseTotalsArray totals{};
  };
  LiveWindow last(std::int64_t now_ns, std::int64_t length_ns, bool working) const;

  const DevicePeaks peaks_;
  const std::int64_t weight_bytes_;
  const MeterCost cost_;

  mutable std::mutex mutex_;
  UtilizationMeter meter_;
  std::deque<Pause> pauses_;  // a second apart; the first began before the longest window
  std::int64_t last_end_ns_;
  double idle_ns_ = 0, gap_ns_ = 0, busy_ns_ = 0, meter_ns_ = 0;
  double published_idle_ns_ = 0;
  std::array<Counts, kNumPhases> published_{};
  Histogram iteration_tokens_{token_bounds()};
  std::array<StepPoint, kNumPoints> points_{};  // of step n at n % kNumPoints
  std::int64_t num_steps_ = 0;
};

}  // namespace redline::server
