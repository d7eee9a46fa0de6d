// A window explained: where its time went, why, and what would change it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/diagnosis.h"
#include "engine/meter/waterfall.h"

namespace redline {

struct LoadedModel;  // engine/engine.h

/// How `model` runs with a cache of `kv_dtype`. Keeps a reference to its backend.
DiagnosedModel diagnosed(const LoadedModel& model, DType kv_dtype);

/// Without a waterfall where peaks are unknown; then without diagnoses too.
struct Explanation {
  std::optional<WindowWaterfall> waterfall;
  std::vector<Diagnosis> why;  // a phase that ran gets one
  std::vector<std::string> notes;

  /// docs/json.md, "explanation".
  nlohmann::ordered_json json() const;
  /// Puts `waterfall` and `why` into what UtilizationMeter::to_json wrote of the same window: whole or one
  /// phase's (docs/json.md, "explanation").
  void add_to(nlohmann::ordered_json& utilization) const;
  /// Lines for a terminal, each ending in a newline.
  std::string report() const;
};

/// What is explained: `wall_s` seconds in which the meter's totals ran, `idle_s` of them without work.
struct ExplainedWindow {
  double wall_s = 0, idle_s = 0;
  std::optional<double> clock{};           // BusyWork's
  const PhaseTotalsArray* also = nullptr;  // efficiencies of a phase that did not run in this window
};
Explanation explain(const UtilizationMeter& meter, const DiagnosedModel& model,
                    const ExplainedWindow& window);

}  // namespace redline
