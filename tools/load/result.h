// A load test's result, for machines and for people.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/outside_meter.h"
#include "tools/load/drive.h"
#include "tools/load/statistics.h"

namespace redline::load {

/// One point of a sweep: what was asked, and what came.
struct LoadPoint {
  std::string backend;  // "openai" (completions), "openai-chat", "redline" (in-process)
  std::string label;    // the user's own; may be empty
  std::string model, tokenizer;
  std::size_t num_prompts = 0;
  Arrivals arrivals;
  std::int64_t max_concurrency = 0;  // 0: no limit
  Goodput goodput;
  std::string date;  // YYYYMMDD-HHMMSS
  /// What the run tells of the server's work, if anything; empty where its model is not known.
  std::function<std::optional<OutsideView>(const DriveResult&)> seen_from_outside;
  DriveResult outcome;
  Statistics statistics;
};

/// What `vllm bench serve` writes, and this project's own fields: docs/json.md, bench serve. `detailed` adds
/// every request's.
nlohmann::ordered_json to_json(const LoadPoint& point, bool detailed);

/// A row a point, with a line for each kind of failure.
std::string to_table(const std::vector<LoadPoint>& points);

/// "16 at a time", "4 / s", "all at once": what sets the point apart.
std::string describe_load(const LoadPoint& point);

}  // namespace redline::load
