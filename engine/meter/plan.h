// What a device would do with a load, before it is bought: latency, throughput, memory, cost and how many it
// takes (docs/accounting.md, "Plans").
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "engine/meter/estimate.h"
#include "engine/meter/step_model.h"

namespace redline {

/// Part of a prompt that a step computes: `num_tokens` after `num_cached` ones.
struct PromptChunk {
  std::int64_t num_tokens = 0, num_cached = 0;
  bool is_last = false;  // its logits are wanted
};

/// How long steps of a model on a device take: by the roofline and the efficiencies that were seen with some
/// batches. Between those, times are interpolated over the logarithm of the batch.
class StepTimes {
 public:
  /// `by_batch`: at least one. Throws std::runtime_error where a peak that the model needs is unknown.
  StepTimes(Estimate estimate, std::map<std::int64_t, StepModel> by_batch, const Peaks& peaks);

  /// Seconds of a step in which `batch` sequences decode after `depth` cached tokens each, a mean over whole
  /// batches where it is a fraction, and prompts compute `chunks`. Either may be none.
  double seconds(double batch, std::int64_t depth, std::span<const PromptChunk> chunks) const;
  double seconds(double batch, std::int64_t depth, const PromptChunk& chunk = {}) const {
    return seconds(batch, depth, std::span(&chunk, chunk.num_tokens > 0 ? 1 : 0));
  }
  /// The roofline's, with no efficiency but 1.
  Verdict roofline(std::int64_t batch, std::int64_t depth, const PromptChunk& chunk = {}) const;

  const Estimate& estimate() const { return estimate_; }

 private:
  double seconds_of_whole(std::int64_t batch, std::int64_t depth, std::span<const PromptChunk> chunks) const;
  StepWork work(std::int64_t batch, std::int64_t depth, std::span<const PromptChunk> chunks) const;

  Estimate estimate_;
  std::map<std::int64_t, StepModel> by_batch_;
  Peaks peaks_;
};

/// Requests alike, and what a device may do with them.
struct PlannedLoad {
  std::int64_t input_len = 512, output_len = 128;
  std::optional<std::int64_t> mean_depth{};  // of decode steps; nothing: that of the answers' middle
  std::int64_t chunk_tokens = 512;           // of a step
  std::int64_t most_sequences = 256;         // at a time, as memory and the scheduler allow
  std::optional<double> target_tpot_s{}, target_ttft_s{};

  std::int64_t depth() const { return mean_depth.value_or(input_len + output_len / 2); }
  std::int64_t length() const { return std::max(input_len + output_len, depth() + 1); }
};

/// A device in the steady state of `requests_per_s` that arrive at random and independently (Poisson).
struct SteadyState {
  double requests_per_s = 0;
  double batch = 0;                          // mean number of sequences that decode
  double ttft_s = 0, tpot_s = 0, e2e_s = 0;  // means; with one token out there is no tpot_s
  double ttft_p99_s = 0, tpot_p99_s = 0;     // of 100 requests, one waits longer
  double prefill_s = 0, decode_s = 0;        // of the device, a request
  double busy = 0;                           // share of the time in which something runs
  bool meets_targets = true;                 // the means
};

/// Continuous batching under a load, step by step as the scheduler puts them together, on a clock of its own:
/// every sequence that decodes gets its token, then prompts their chunks, first come first served, within
/// `chunk_tokens` and `most_sequences`. Arrivals are drawn from one seed whatever the rate, so that two rates
/// see the same pattern, and so is any answer the same when asked again.
class LoadModel {
 public:
  /// Keeps a reference to `times`. Requires lengths of at least 1.
  LoadModel(const StepTimes& times, const PlannedLoad& load);

  /// Nothing where the device is saturated: more arrives than it can ever do.
  std::optional<SteadyState> at(double requests_per_s) const;
  /// Requests a second that a device does where `batch` sequences may run and others always wait.
  double capacity(std::int64_t batch) const;
  /// The highest rate whose steady state meets the targets; without targets what saturates the device, where
  /// TTFT is endless. Nothing where even a single request misses them.
  std::optional<SteadyState> most() const;
  /// The least number of devices that share `requests_per_s` evenly, none saturated, all meeting the targets.
  /// Nothing where none does.
  std::optional<std::int64_t> devices(double requests_per_s) const;

  /// One prompt on an idle device, and with `batch` sequences that decode along.
  double prompt_s(double batch = 0) const;

 private:
  double decode_step_s(double batch) const { return times_.seconds(batch, load_.depth()); }
  SteadyState alone() const;
  bool meets_targets(const SteadyState& state) const;

  const StepTimes& times_;
  PlannedLoad load_;
};

}  // namespace redline
