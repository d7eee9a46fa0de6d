#include "engine/meter/request_clock.h"

#include <cmath>

namespace redline {

void RequestClock::add(Phase phase, double own_ns, double recomputed_share) {
  recomputed_ns_ += recomputed_share * own_ns;
  own_ns_[static_cast<std::size_t>(phase)] += (1 - recomputed_share) * own_ns;
}

void RequestClock::resume(std::int64_t now_ns, double busy_ns) {
  if (!preempted_) return;
  preempted_ns_ += now_ns - preempted_->ns;
  preempted_busy_ns_ += busy_ns - preempted_->busy_ns;
  preempted_.reset();
}

// Whatever of the time is nothing else is a gap.
RequestTimes RequestClock::end(std::int64_t received_ns, std::int64_t arrival_ns, std::int64_t now_ns,
                               double busy_ns) {
  resume(now_ns, busy_ns);
  const auto [prefill_ns, decode_ns] = own_ns_;
  RequestTimes times;
  times[RequestTerm::kReading] = arrival_ns - received_ns;
  times[RequestTerm::kQueued] = (started_ ? started_->ns : now_ns) - arrival_ns;
  times[RequestTerm::kPrefill] = std::llround(prefill_ns);
  times[RequestTerm::kDecode] = std::llround(decode_ns);
  times[RequestTerm::kRecomputation] = std::llround(recomputed_ns_);
  times[RequestTerm::kPreempted] = preempted_ns_;
  if (started_)
    times[RequestTerm::kOthers] = std::llround(busy_ns - started_->busy_ns - preempted_busy_ns_ - prefill_ns -
                                               decode_ns - recomputed_ns_);
  times[RequestTerm::kGap] = now_ns - received_ns - times.sum();
  return times;
}

}  // namespace redline
