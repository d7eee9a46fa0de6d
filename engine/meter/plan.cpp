#include "engine/meter/plan.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/meter/device_peaks.h"

namespace redline {
namespace {

constexpr int kHalvings = 60;

// The greatest x in [low, high] that `holds`, which holds at `low` and once false stays false.
template <class Holds>
double greatest(double low, double high, Holds&& holds) {
  if (holds(high)) return high;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = low + (high - low) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

StepTimes::StepTimes(Estimate estimate, std::map<std::int64_t, StepModel> by_batch, const Peaks& peaks)
    : estimate_(std::move(estimate)), by_batch_(std::move(by_batch)), peaks_(peaks) {
  if (!verdict(estimate_.decode(1, 1), peaks_))
    throw std::runtime_error(
        "no peak is known of the arithmetic that the model runs in, or of the memory's bandwidth");
}

StepWork StepTimes::work(std::int64_t batch, std::int64_t depth, const PromptChunk& chunk) const {
  StepWork step;
  if (batch > 0) step.add(Phase::kDecode, estimate_.decode(batch, depth), batch);
  if (chunk.num_tokens > 0) {
    const SequenceShape shape{chunk.num_cached, chunk.num_tokens, chunk.is_last ? 1 : 0};
    step.add(Phase::kPrefill, estimate_.step({&shape, 1}), chunk.num_tokens);
  }
  return step;
}

double StepTimes::seconds_of_whole(std::int64_t batch, std::int64_t depth, const PromptChunk& chunk) const {
  const StepWork step = work(batch, depth, chunk);
  const auto above = by_batch_.lower_bound(batch);
  const auto by = [&](const StepModel& model) {
    const auto predicted = model.predict(step, estimate_.attention_type());
    if (!predicted) throw std::runtime_error("no step of this phase has run, so none is predicted");
    return predicted->wall_s();
  };
  if (above == by_batch_.end()) return by(by_batch_.rbegin()->second);
  if (above->first == batch || above == by_batch_.begin()) return by(above->second);
  const auto below = std::prev(above);
  const auto log_of = [](std::int64_t n) { return std::log(static_cast<double>(n)); };
  const double share = (log_of(batch) - log_of(below->first)) / (log_of(above->first) - log_of(below->first));
  return std::lerp(by(below->second), by(above->second), share);
}

double StepTimes::seconds(double batch, std::int64_t depth, const PromptChunk& chunk) const {
  const auto below = static_cast<std::int64_t>(batch);
  const double share = batch - static_cast<double>(below);
  const auto whole = [&](std::int64_t n) {
    return n > 0 || chunk.num_tokens > 0 ? seconds_of_whole(n, depth, chunk) : 0;
  };
  return share > 0 ? std::lerp(whole(below), whole(below + 1), share) : whole(below);
}

Verdict StepTimes::roofline(std::int64_t batch, std::int64_t depth, const PromptChunk& chunk) const {
  const StepWork step = work(batch, depth, chunk);
  Work all = step.work[0];
  all += step.work[1];
  all.weights = std::max(step.work[0].weights, step.work[1].weights);
  return *verdict(all, peaks_);
}

LoadModel::LoadModel(const StepTimes& times, const PlannedLoad& load)
    : times_(times), load_(load), num_chunks_((load.input_len + load.chunk_tokens - 1) / load.chunk_tokens) {}

double LoadModel::prompt_s(double batch) const {
  double seconds = 0;
  for (std::int64_t done = 0; done < load_.input_len; done += load_.chunk_tokens) {
    const std::int64_t num_tokens = std::min(load_.chunk_tokens, load_.input_len - done);
    seconds += times_.seconds(batch, load_.depth(), {num_tokens, done, done + num_tokens == load_.input_len});
  }
  return seconds;
}

// The time that a prompt keeps the next one waiting: short ones share a step.
double LoadModel::turn_s(double batch) const {
  if (load_.input_len >= load_.chunk_tokens) return prompt_s(batch);
  return times_.seconds(batch, load_.depth(), {load_.chunk_tokens, 0, true}) *
         static_cast<double>(load_.input_len) / static_cast<double>(load_.chunk_tokens);
}

// What a prompt adds to the decode steps that its chunks ride on.
double LoadModel::prolonged_s(double batch) const {
  return std::max(0.0, prompt_s(batch) - static_cast<double>(num_chunks_) * decode_step_s(batch));
}

// Batch B takes B tokens' time for each of them to get one, and for every answer that ends a prompt begins.
double LoadModel::capacity(double batch) const {
  const double steps = static_cast<double>(load_.output_len - 1);
  const double prompts_alone = 1 / turn_s(batch);
  if (steps <= 0) return prompts_alone;
  return std::min(prompts_alone, batch / (steps * decode_step_s(batch) + batch * prolonged_s(batch)));
}

SteadyState LoadModel::state(double requests_per_s, double batch) const {
  const double seen = std::min(1 + batch, static_cast<double>(load_.most_sequences));
  const double steps = static_cast<double>(load_.output_len - 1);
  const double step_s = decode_step_s(seen), longer = prolonged_s(seen);
  const double prompt = prompt_s(batch);  // its own sequence does not decode yet
  SteadyState s;
  s.requests_per_s = requests_per_s;
  s.batch = batch;
  s.tpot_s = step_s / (1 - requests_per_s * longer);
  s.prefill_s = steps > 0 ? longer : prompt;
  s.decode_s = steps * step_s / seen;
  const double turn = turn_s(batch), prompts_busy = requests_per_s * turn;
  s.busy = std::min(1.0, batch / (1 + batch) + (steps > 0 ? 0 : requests_per_s * prompt));
  s.ttft_s = prompt + prompts_busy * turn / (2 * (1 - prompts_busy)) + s.busy * s.tpot_s / 2;
  s.e2e_s = s.ttft_s + steps * s.tpot_s;
  s.meets_targets = (!load_.target_tpot_s || steps <= 0 || s.tpot_s <= *load_.target_tpot_s) &&
                    (!load_.target_ttft_s || s.ttft_s <= *load_.target_ttft_s);
  return s;
}

std::optional<SteadyState> LoadModel::at(double requests_per_s) const {
  const double most = static_cast<double>(load_.most_sequences);
  const double steps = static_cast<double>(load_.output_len - 1);
  // More sequences are under way than `batch` allows for.
  const auto grows = [&](double batch) {
    const double seen = std::min(1 + batch, most);
    if (requests_per_s * turn_s(seen) >= 1) return true;
    const double spare = 1 - requests_per_s * prolonged_s(seen);
    return spare <= 0 || requests_per_s * steps * decode_step_s(seen) / spare > batch;
  };
  if (grows(most)) return std::nullopt;
  return state(requests_per_s, greatest(0, most, grows));
}

std::optional<SteadyState> LoadModel::most() const {
  const double full = static_cast<double>(load_.most_sequences), capacity_per_s = capacity(full);
  if (!load_.target_tpot_s && !load_.target_ttft_s) {
    SteadyState s = state(capacity_per_s, full);
    s.busy = 1;
    return s;
  }
  const auto meets = [&](double rate) {
    const auto found = at(rate);
    return found && found->meets_targets;
  };
  if (!meets(0)) return std::nullopt;
  return at(greatest(0, capacity_per_s, meets));
}

std::optional<std::int64_t> LoadModel::devices(double requests_per_s) const {
  const auto bound = most();
  if (!bound || bound->requests_per_s <= 0) return std::nullopt;
  auto count = static_cast<std::int64_t>(std::ceil(requests_per_s / bound->requests_per_s));
  for (count = std::max<std::int64_t>(1, count);; ++count) {
    const auto found = at(requests_per_s / static_cast<double>(count));
    if (found && found->meets_targets) return count;
  }
}

}  // namespace redline
