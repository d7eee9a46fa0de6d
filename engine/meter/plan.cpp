#include "engine/meter/plan.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/meter/device_peaks.h"

namespace redline {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int kHalvings = 40;
constexpr std::int64_t kWarmUp = 500, kCounted = 3500;  // requests that are simulated

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

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}
// What one of 100 exceeds.
double p99_of(std::vector<double> values) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() * 99 / 100);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// A load on a device, from an empty one to its steady state. Answers are equally long, so they end in the
/// order in which they began.
class LoadSimulation {
 public:
  /// Requests arrive at random; without a rate there is always another one.
  LoadSimulation(const StepTimes& times, const PlannedLoad& load, std::optional<double> requests_per_s = {})
      : times_(times), load_(load), requests_per_s_(requests_per_s), next_arrival_s_(gap_s()) {}

  SteadyState run() {
    const std::int64_t uncounted = kWarmUp + 2 * load_.most_sequences,
                       all = uncounted + kCounted + 4 * load_.most_sequences;
    while (num_ended_ < all) {
      if (prompts_.empty() && answers_.empty()) now_s_ = std::max(now_s_, next_arrival_s_);
      arrive();
      step();
      if (num_ended_ <= uncounted) begin_count();
    }
    return state();
  }

 private:
  struct Prompt {
    double arrived_s;
    std::int64_t num_done;
  };
  struct Answer {
    double arrived_s, first_s;
    std::int64_t last_step;
  };
  struct Sums {
    double now_s = 0, busy_s = 0, prefill_s = 0, decode_s = 0, batch_s = 0;
  };

  void arrive() {
    if (requests_per_s_)
      for (; next_arrival_s_ <= now_s_; next_arrival_s_ += gap_s()) prompts_.push_back({next_arrival_s_, 0});
    else
      while (std::ssize(prompts_) < load_.most_sequences) prompts_.push_back({now_s_, 0});
  }
  double gap_s() { return requests_per_s_ ? -std::log1p(-uniform_(random_)) / *requests_per_s_ : 0; }

  // What the scheduler lets prompts compute beside the answers under way.
  std::vector<PromptChunk> next_chunks() const {
    std::vector<PromptChunk> chunks;
    auto batch = static_cast<std::int64_t>(answers_.size());
    std::int64_t room = load_.chunk_tokens - batch;
    for (const Prompt& prompt : prompts_) {
      if (room <= 0 || ++batch > load_.most_sequences) break;
      const std::int64_t left = load_.input_len - prompt.num_done, num_tokens = std::min(room, left);
      chunks.push_back({num_tokens, prompt.num_done, num_tokens == left});
      room -= num_tokens;
    }
    return chunks;
  }

  double step_s(const std::vector<PromptChunk>& chunks) {
    std::vector<std::int64_t> key{static_cast<std::int64_t>(answers_.size())};
    for (const PromptChunk& chunk : chunks) key.insert(key.end(), {chunk.num_tokens, chunk.num_cached});
    const auto [known, is_new] = step_s_.try_emplace(std::move(key), 0);
    if (is_new) known->second = times_.seconds(static_cast<double>(answers_.size()), load_.depth(), chunks);
    return known->second;
  }

  void step() {
    const std::vector<PromptChunk> chunks = next_chunks();
    const double seconds = step_s(chunks),
                 decode_s = answers_.empty() || chunks.empty() ? seconds : step_s({});
    // Steps of decode alone are alike until someone comes or goes.
    std::int64_t num_steps = 1;
    if (chunks.empty()) {
      const double until_arrival =
          requests_per_s_ ? std::max(1.0, std::ceil((next_arrival_s_ - now_s_) / seconds)) : kNever;
      num_steps = static_cast<std::int64_t>(
          std::min(until_arrival, static_cast<double>(answers_.front().last_step - num_steps_)));
    }
    const double all_s = seconds * static_cast<double>(num_steps);
    now_s_ += all_s;
    num_steps_ += num_steps;
    sums_.busy_s += all_s;
    sums_.batch_s += all_s * static_cast<double>(answers_.size());
    const double decodes_s =
        answers_.empty() ? 0 : std::min(all_s, decode_s * static_cast<double>(num_steps));
    sums_.decode_s += decodes_s;
    sums_.prefill_s += all_s - decodes_s;
    for (; !answers_.empty() && answers_.front().last_step <= num_steps_; answers_.pop_front())
      end(answers_.front());
    for (const PromptChunk& chunk : chunks) advance(chunk);
  }

  void advance(const PromptChunk& chunk) {
    Prompt& prompt = prompts_.front();  // the chunks before it were their prompts' last
    prompt.num_done += chunk.num_tokens;
    if (!chunk.is_last) return;
    const Answer answer{prompt.arrived_s, now_s_, num_steps_ + load_.output_len - 1};
    prompts_.pop_front();
    if (load_.output_len > 1)
      answers_.push_back(answer);
    else
      end(answer);
  }

  void end(const Answer& answer) {
    ++num_ended_;
    ttft_s_.push_back(answer.first_s - answer.arrived_s);
    if (load_.output_len > 1)
      tpot_s_.push_back((now_s_ - answer.first_s) / static_cast<double>(load_.output_len - 1));
  }

  // What came before does not count.
  void begin_count() {
    sums_ = {.now_s = now_s_};
    ttft_s_.clear();
    tpot_s_.clear();
  }

  SteadyState state() const {
    const double wall_s = now_s_ - sums_.now_s, counted = static_cast<double>(ttft_s_.size());
    SteadyState s;
    s.requests_per_s = requests_per_s_.value_or(counted / wall_s);
    s.batch = sums_.batch_s / wall_s;
    s.ttft_s = requests_per_s_ ? mean_of(ttft_s_) : kNever;
    s.ttft_p99_s = requests_per_s_ ? p99_of(ttft_s_) : kNever;
    s.e2e_s = s.ttft_s;
    if (!tpot_s_.empty()) {
      s.tpot_s = mean_of(tpot_s_);
      s.tpot_p99_s = p99_of(tpot_s_);
      s.e2e_s += s.tpot_s * static_cast<double>(load_.output_len - 1);
    }
    s.prefill_s = sums_.prefill_s / counted;
    s.decode_s = sums_.decode_s / counted;
    s.busy = std::min(1.0, sums_.busy_s / wall_s);
    return s;
  }

  const StepTimes& times_;
  const PlannedLoad& load_;
  std::optional<double> requests_per_s_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> uniform_;
  std::map<std::vector<std::int64_t>, double> step_s_;  // by the batch, and the chunks' tokens and depths

  double now_s_ = 0, next_arrival_s_;
  std::int64_t num_steps_ = 0;
  std::deque<Prompt> prompts_;  // in order of arrival, those at the front perhaps partly done
  std::deque<Answer> answers_;
  std::int64_t num_ended_ = 0;
  Sums sums_;  // since counting began
  std::vector<double> ttft_s_, tpot_s_;
};

}  // namespace

StepTimes::StepTimes(Estimate estimate, std::map<std::int64_t, StepModel> by_batch, const Peaks& peaks)
    : estimate_(std::move(estimate)), by_batch_(std::move(by_batch)), peaks_(peaks) {
  if (!verdict(estimate_.decode(1, 1), peaks_))
    throw std::runtime_error(
        "no peak is known of the arithmetic that the model runs in, or of the memory's bandwidth");
}

StepWork StepTimes::work(std::int64_t batch, std::int64_t depth, std::span<const PromptChunk> chunks) const {
  StepWork step;
  if (batch > 0) step.add(Phase::kDecode, estimate_.decode(batch, depth), batch);
  std::vector<SequenceShape> shapes;
  std::int64_t num_tokens = 0;
  for (const PromptChunk& chunk : chunks) {
    shapes.push_back({chunk.num_cached, chunk.num_tokens, chunk.is_last ? 1 : 0});
    num_tokens += chunk.num_tokens;
  }
  if (num_tokens > 0) step.add(Phase::kPrefill, estimate_.step(shapes), num_tokens);
  return step;
}

double StepTimes::seconds_of_whole(std::int64_t batch, std::int64_t depth,
                                   std::span<const PromptChunk> chunks) const {
  const StepWork step = work(batch, depth, chunks);
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

double StepTimes::seconds(double batch, std::int64_t depth, std::span<const PromptChunk> chunks) const {
  const auto below = static_cast<std::int64_t>(batch);
  const double share = batch - static_cast<double>(below);
  const auto whole = [&](std::int64_t n) {
    return n > 0 || !chunks.empty() ? seconds_of_whole(n, depth, chunks) : 0;
  };
  return share > 0 ? std::lerp(whole(below), whole(below + 1), share) : whole(below);
}

Verdict StepTimes::roofline(std::int64_t batch, std::int64_t depth, const PromptChunk& chunk) const {
  const StepWork step = work(batch, depth, std::span(&chunk, chunk.num_tokens > 0 ? 1 : 0));
  Work all = step.work[0];
  all += step.work[1];
  all.weights = std::max(step.work[0].weights, step.work[1].weights);
  return *verdict(all, peaks_);
}

LoadModel::LoadModel(const StepTimes& times, const PlannedLoad& load) : times_(times), load_(load) {}

double LoadModel::prompt_s(double batch) const {
  double seconds = 0;
  for (std::int64_t done = 0; done < load_.input_len; done += load_.chunk_tokens) {
    const std::int64_t num_tokens = std::min(load_.chunk_tokens, load_.input_len - done);
    seconds += times_.seconds(batch, load_.depth(), {num_tokens, done, done + num_tokens == load_.input_len});
  }
  return seconds;
}

double LoadModel::capacity(std::int64_t batch) const {
  PlannedLoad load = load_;
  load.most_sequences = batch;
  return LoadSimulation(times_, load).run().requests_per_s;
}

SteadyState LoadModel::alone() const {
  SteadyState s;
  s.ttft_s = s.ttft_p99_s = s.prefill_s = prompt_s();
  if (load_.output_len > 1) s.tpot_s = s.tpot_p99_s = decode_step_s(1);
  s.decode_s = static_cast<double>(load_.output_len - 1) * s.tpot_s;
  s.e2e_s = s.ttft_s + s.decode_s;
  s.meets_targets = meets_targets(s);
  return s;
}

bool LoadModel::meets_targets(const SteadyState& state) const {
  return (!load_.target_tpot_s || state.tpot_s <= *load_.target_tpot_s) &&
         (!load_.target_ttft_s || state.ttft_s <= *load_.target_ttft_s);
}

std::optional<SteadyState> LoadModel::at(double requests_per_s) const {
  if (requests_per_s <= 0) return alone();
  if (requests_per_s >= capacity(load_.most_sequences)) return std::nullopt;
  SteadyState state = LoadSimulation(times_, load_, requests_per_s).run();
  state.meets_targets = meets_targets(state);
  return state;
}

std::optional<SteadyState> LoadModel::most() const {
  const SteadyState full = LoadSimulation(times_, load_).run();
  if (!load_.target_tpot_s && !load_.target_ttft_s) return full;
  const auto meets = [&](double rate) {
    const auto found = at(rate);
    return found && found->meets_targets;
  };
  if (!meets(0)) return std::nullopt;
  return at(greatest(0, full.requests_per_s, meets));
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
