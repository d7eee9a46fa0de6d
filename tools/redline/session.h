// A model that runs, and the meter that watches it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/meter/explanation.h"
#include "engine/meter/trace.h"
#include "engine/meter/utilization.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/redline/options.h"

namespace redline {

/// Loads `reference` with a progress bar on a terminal; `progress` is told too.
std::shared_ptr<LoadedModel> load_model(
    const std::string& reference, const ModelFlags& flags,
    const std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>& progress = {});

/// The model's tokenizer; throws std::runtime_error where it has none.
const Tokenizer& tokenizer_of(const LoadedModel& model);

/// The peaks of the model's device, which its ledger is given too. Measured now (about a second) where
/// nothing is kept from before.
DevicePeaks metered_peaks(LoadedModel& model);

/// Says on stderr where `options` ask for a pace that not even one sequence keeps, the device at its peaks.
void warn_of_pace(LoadedModel& model, const EngineOptions& options);

/// Writes a Chrome trace to `path`; null where that is empty.
std::unique_ptr<TraceWriter> trace_to(const std::string& path, const std::string& model_name,
                                      const DevicePeaks& peaks);
/// --trace FILE
void add_trace_flag(Flags& flags, std::string& path);

/// What one answer was and cost.
struct Reply {
  std::string text;
  std::vector<std::int32_t> token_ids;
  std::vector<std::vector<TokenLogprob>> logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  bool interrupted = false;  // by Ctrl-C
  RunSummary summary;
};

class Session {
 public:
  /// `trace_path`: where to write a Chrome trace; empty: nowhere. `sensors`: null: there are none.
  Session(std::shared_ptr<LoadedModel> model, const EngineOptions& options,
          const std::string& trace_path = {}, std::unique_ptr<DeviceSensors> sensors = {});

  const LoadedModel& model() const { return engine_.model(); }
  EngineStats stats() const { return engine_.stats(); }

  /// Runs one request with n = 1 to its end, or to Ctrl-C, and hands on its text as it comes, with a live
  /// line on a terminal. Throws std::runtime_error with the engine's message when the request fails.
  Reply answer(Request request, const std::function<void(std::string_view)>& on_text);

  /// Engine::load_session and save_session.
  std::int64_t load(const std::string& path) { return engine_.load_session(path); }
  std::int64_t save(std::span<const std::int32_t> tokens, const std::string& path) {
    return engine_.save_session(tokens, path);
  }

  nlohmann::ordered_json utilization(const RunSummary& run);
  std::string report(const RunSummary& run);
  /// Of what the meter holds.
  Explanation explanation(const RunSummary& run);
  void reset_meter();
  /// Ends the trace file, if there is one.
  void close_trace();

 private:
  void observe(const StepRecord& step);

  std::mutex mutex_;  // guards what follows: the engine's thread adds steps
  UtilizationMeter meter_;
  const DiagnosedModel diagnosed_;
  const std::unique_ptr<DeviceSensors> sensors_;
  MeanClock clock_;
  std::unique_ptr<TraceWriter> trace_;
  Engine engine_;  // last: its thread ends before what it writes to
};

}  // namespace redline
