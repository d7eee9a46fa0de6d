// Sends a workload to a target, on one thread, and notes what came when.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tools/load/statistics.h"
#include "tools/load/target.h"

namespace redline::load {

struct DriveOptions {
  std::int64_t max_concurrency = 0;       // requests under way at a time; 0: any number
  std::vector<LoadRequest> warmups = {};  // sent before, one after another, and not counted
  /// Called ten times a second; false ends the run.
  std::function<bool(std::size_t done, std::size_t total)> go_on = {};
};

struct DriveResult {
  std::vector<RequestRecord> records;   // in the workload's order
  double wall_s = 0;                    // of all of them
  std::string page_before, page_after;  // the target's metrics; empty: it has none
  std::vector<std::string> pages;       // once a second between
  bool interrupted = false;             // requests that had not ended count as failed
};

/// A request that may not be sent for want of concurrency is sent late; its times count from its sending.
DriveResult drive(Target& target, const std::vector<LoadRequest>& workload, const DriveOptions& options);

}  // namespace redline::load
