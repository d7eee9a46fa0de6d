// A timeline of steps and requests: what an engine did, and where its time went.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/meter/trace_file.h"
#include "engine/meter/utilization.h"

namespace redline {

struct RequestUsage;  // engine/request.h
struct StepRecord;    // engine/engine.h

/// An engine's observer of steps and of requests, on its thread. Memory is bounded by the requests that run,
/// however long the trace becomes.
///
/// "steps" has a span for each step with its tokens, FLOPs and bytes, and one for each gap before it.
/// "operations" has a span for each kind of operation in the step: the kinds' times summed and laid end to
/// end, the longest first, since a kind runs many times a step. Every request that a step has computed, or
/// that has ended, has a row of its own: one span from its arrival to its end, in it "queued", the steps that
/// computed it, and "preempted" or "waiting" where steps computed others alone (in a step of several answers
/// the row shows them together).
///
/// Graphs: tokens, FLOP/s and bytes/s of each step; the cache's blocks in use and the requests that run and
/// wait, after it; and its waterfall, in nanoseconds, whose values sum to the step and the gap before it, or
/// to the time without work before that. So over the whole trace they sum to its time, from the moment that
/// `origin_ns` names to the last step's end. Where no peaks are known there is idle, gap and busy time alone.
class TraceWriter {
 public:
  /// The clock of an engine's records.
  static std::int64_t now_ns();
  /// The trace begins at `origin_ns`. Throws std::runtime_error naming the file when it cannot be opened.
  TraceWriter(const std::string& path, const std::string& name, DevicePeaks peaks,
              std::int64_t origin_ns = now_ns());

  void add_step(const StepRecord& step);
  void end_request(const RequestUsage& usage);
  /// A span beside the steps: what they were for.
  void add_stretch(const std::string& name, std::int64_t start_ns, std::int64_t end_ns);
  /// Throws std::runtime_error when something could not be written.
  void close();

 private:
  struct Lane {
    std::int64_t step = 0, end_ns = 0;  // the last one that computed it
    bool is_preempted = false;
    std::int64_t prefill_tokens = 0, decode_tokens = 0, recomputed_tokens = 0;  // of this step
  };
  void add_operations(const StepCounts& counts, std::int64_t start_ns);
  void add_lanes(const StepRecord& step);
  void add_wait(const Lane& lane, std::int64_t request, std::int64_t until_ns);
  Lane& open_lane(const RequestUsage& usage, std::int64_t queued_until_ns);
  void add_rates(const Counts& counts, std::int64_t start_ns, std::int64_t wall_ns);
  void add_waterfall(const StepRecord& step);
  void add_state(const StepRecord& step);
  void flush_sometimes(std::int64_t now_ns);

  TraceFile file_;
  const std::int64_t origin_ns_;
  UtilizationMeter step_meter_;  // of one step at a time
  std::int64_t num_steps_ = 0, last_end_ns_, flushed_ns_ = 0;
  std::unordered_map<std::int64_t, Lane> lanes_;  // by request; of those that have not ended
  std::vector<std::int64_t> computed_;            // requests of this step
};

}  // namespace redline
