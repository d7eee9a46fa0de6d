#include "server/live_meter.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

namespace redline::server {
namespace {

constexpr std::int64_t kPauseIntervalNs = 1'000'000'000;

double seconds(double ns) { return ns * 1e-9; }

std::size_t place_of(std::int64_t serial) { return static_cast<std::size_t>(serial) % LiveMeter::kNumPoints; }

/// Every count of `published` that is below that of `now` becomes it.
void raise(Counts& published, const Counts& now) {
  const auto raise_all = [](auto& low, const auto& high) {
    for (std::size_t i = 0; i < low.size(); ++i) low[i] = std::max(low[i], high[i]);
  };
  raise_all(published.flops, now.flops);
  raise_all(published.wasted_flops, now.wasted_flops);
  raise_all(published.flops_by_type, now.flops_by_type);
  raise_all(published.wasted_flops_by_type, now.wasted_flops_by_type);
  for (const auto count :
       {&Counts::tokens, &Counts::wasted_tokens, &Counts::weights, &Counts::kv_read, &Counts::kv_write,
        &Counts::kv_read_logical, &Counts::activations, &Counts::wasted_bytes, &Counts::declared})
    published.*count = std::max(published.*count, now.*count);
}

StepPoint point_of(const StepRecord& step, std::int64_t serial) {
  StepPoint point{.serial = serial,
                  .end_ns = step.start_ns + step.wall_ns,
                  .prefill_tokens = step.num_prefill_tokens,
                  .decode_tokens = step.num_decode_tokens,
                  .num_sequences = step.num_sequences,
                  .wall_ns = step.wall_ns,
                  .gap_ns = step.gap_ns};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    point.useful_flops += step.counts->phase[p].useful_flops();
    point.min_bytes += step.counts->phase[p].min_bytes();
    point.busy_ns += step.counts->busy_ns[p];
  }
  return point;
}

}  // namespace

LiveMeter::LiveMeter(DevicePeaks peaks, std::int64_t weight_bytes, std::int64_t now_ns, MeterCost cost)
    : peaks_(std::move(peaks)),
      weight_bytes_(weight_bytes),
      cost_(cost),
      meter_(peaks_, weight_bytes),
      last_end_ns_(now_ns) {
  pauses_.push_back({now_ns, now_ns, now_ns, 0, {}});
}

void LiveMeter::add_step(const StepRecord& step) {
  const auto entered = std::chrono::steady_clock::now();
  const StepCounts& counts = *step.counts;
  const std::int64_t num_ops = std::accumulate(counts.kind_calls.begin(), counts.kind_calls.end(), 0);
  const std::lock_guard lock(mutex_);
  if (step.start_ns - pauses_.back().until_ns >= kPauseIntervalNs) {
    pauses_.push_back({last_end_ns_, step.start_ns - step.gap_ns, step.start_ns, idle_ns_, meter_.totals()});
    while (pauses_.size() > 1 && step.start_ns - pauses_[1].from_ns >= kLongestWindowNs) pauses_.pop_front();
  }
  meter_.add_step(step);
  const StepPoint point = point_of(step, ++num_steps_);
  points_[place_of(num_steps_)] = point;
  iteration_tokens_.observe(static_cast<double>(step.num_prefill_tokens + step.num_decode_tokens));
  // Whatever is neither idle nor busy is a gap: the three add up to all time.
  const std::int64_t since_last_ns = point.end_ns - last_end_ns_;
  const double idle_ns =
      static_cast<double>(std::max<std::int64_t>(0, since_last_ns - step.wall_ns - step.gap_ns));
  idle_ns_ += idle_ns;
  const double busy_ns = std::min(point.busy_ns, static_cast<double>(step.wall_ns));
  busy_ns_ += busy_ns;
  gap_ns_ += static_cast<double>(since_last_ns) - idle_ns - busy_ns;
  last_end_ns_ = point.end_ns;
  meter_ns_ += cost_.of(num_ops, step.num_sequences) +
               std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - entered).count();
}

LiveReading LiveMeter::read(std::int64_t now_ns, bool working) {
  LiveReading reading;
  const std::lock_guard lock(mutex_);
  reading.totals = meter_.totals();
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    raise(published_[p], reading.totals[p].counts);
    reading.totals[p].counts = published_[p];
  }
  LiveWindow window = last(now_ns, kWindowNs, working);
  reading.window = window.totals;
  reading.window_s = window.wall_s;
  const double since_last_ns =
      working ? 0 : static_cast<double>(std::max<std::int64_t>(0, now_ns - last_end_ns_));
  published_idle_ns_ = std::max(published_idle_ns_, idle_ns_ + since_last_ns);
  reading.idle_s = seconds(published_idle_ns_);
  reading.gap_s = seconds(gap_ns_);
  reading.busy_s = seconds(busy_ns_);
  reading.meter_s = seconds(meter_ns_);
  reading.iteration_tokens = iteration_tokens_;
  return reading;
}

LiveWindow LiveMeter::window(std::int64_t now_ns, std::int64_t length_ns, bool working) const {
  const std::lock_guard lock(mutex_);
  return last(now_ns, length_ns, working);
}

// The window begins in the last pause that began before it; where the pause has ended by then, with the step
// after it.
LiveWindow LiveMeter::last(std::int64_t now_ns, std::int64_t length_ns, bool working) const {
  const std::int64_t begin_ns = now_ns - length_ns;
  const Pause now{last_end_ns_, working ? last_end_ns_ : now_ns, now_ns, idle_ns_, meter_.totals()};
  const Pause* before = &pauses_.front();
  for (const Pause& pause : pauses_)
    if (pause.from_ns <= begin_ns) before = &pause;
  if (now.from_ns <= begin_ns) before = &now;
  const std::int64_t from_ns = std::clamp(begin_ns, before->from_ns, before->until_ns);
  const auto idle_to = [](const Pause& pause, std::int64_t at_ns) {
    return pause.idle_before_ns + static_cast<double>(std::max<std::int64_t>(
                                      0, std::min(at_ns, pause.idle_until_ns) - pause.from_ns));
  };
  LiveWindow window{.totals = meter_.totals(),
                    .wall_s = seconds(static_cast<double>(now_ns - from_ns)),
                    .idle_s = seconds(idle_to(now, now_ns) - idle_to(*before, from_ns))};
  for (std::size_t p = 0; p < kNumPhases; ++p) window.totals[p] -= before->totals[p];
  return window;
}

std::vector<StepPoint> LiveMeter::steps_since(std::int64_t serial) const {
  const std::lock_guard lock(mutex_);
  std::vector<StepPoint> points;
  const std::int64_t kept = std::min<std::int64_t>(num_steps_, kNumPoints);
  for (std::int64_t n = std::max(serial, num_steps_ - kept) + 1; n <= num_steps_; ++n)
    points.push_back(points_[place_of(n)]);
  return points;
}

}  // namespace redline::server
