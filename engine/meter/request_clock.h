// Where the time of one request went, among others that are served beside it (docs/accounting.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "engine/request.h"

namespace redline {

/// Told what happens to a request, with the time and the device's busy time since any moment, both in
/// nanoseconds.
class RequestClock {
 public:
  /// The first step that computes any of it begins.
  void start(std::int64_t now_ns, double busy_ns) { started_ = {now_ns, busy_ns}; }
  /// It was charged `own_ns` of a step's busy time, a share of that for what it had computed before.
  void add(Phase phase, double own_ns, double recomputed_share);
  /// Since then none of it runs, for want of blocks; until a step that computes it begins.
  void preempt(std::int64_t now_ns, double busy_ns) { preempted_ = {now_ns, busy_ns}; }
  void resume(std::int64_t now_ns, double busy_ns);
  /// It ends: by RequestTerm, nanoseconds that sum to the time since `received_ns`.
  RequestTimes end(std::int64_t received_ns, std::int64_t arrival_ns, std::int64_t now_ns, double busy_ns);

 private:
  struct Moment {
    std::int64_t ns = 0;
    double busy_ns = 0;
  };
  std::optional<Moment> started_, preempted_;
  double own_ns_[kNumPhases]{}, recomputed_ns_ = 0, preempted_busy_ns_ = 0;
  std::int64_t preempted_ns_ = 0;
};

}  // namespace redline
