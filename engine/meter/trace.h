// A timeline of steps as Chrome trace JSON: opens in Perfetto (ui.perfetto.dev) and chrome://tracing.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <string>

#include "kernels/ledger.h"

namespace redline {

/// Writes each step as it comes; the file is whole JSON once closed, and viewers take it without the closing
/// bracket too, so that a killed run leaves a trace. Not thread-safe.
///
/// Two tracks. "steps" has one event a step with its tokens, FLOPs and bytes; a gap between steps is an event
/// of its own. "operations" has one event per kind of operation in the step: the kinds' times summed and laid
/// end to end, the longest first, since a kind runs many times a step. Counters: tokens, FLOP/s and bytes/s.
class TraceWriter {
 public:
  /// Throws std::runtime_error naming the file when it cannot be opened.
  TraceWriter(const std::string& path, const std::string& process_name);
  /// Closes, ignoring errors.
  ~TraceWriter();

  /// `start_ns` on any steady clock; `gap_ns` is the time before it that work waited.
  void add_step(const StepCounts& step, std::int64_t start_ns, std::int64_t wall_ns, std::int64_t gap_ns = 0);
  /// Throws std::runtime_error when something could not be written.
  void close();

 private:
  void write_event(const std::string& json);

  std::string path_;
  std::ofstream file_;
  bool first_ = true;
  std::int64_t origin_ns_ = -1;
  std::int64_t num_steps_ = 0;
};

}  // namespace redline
