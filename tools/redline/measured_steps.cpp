#include "tools/redline/measured_steps.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "engine/meter/explanation.h"
#include "engine/meter/utilization.h"
#include "engine/weights.h"
#include "tools/redline/session.h"

namespace redline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kSeed = 1;
constexpr int kRuns = 3, kDecodeSteps = 12;  // of each shape; the middle one counts
constexpr double kWarmSeconds = 2;           // until clocks, pages and threads are as they will be
constexpr double kMostSeconds = 20;          // after which no greater batch begins

/// Steps of one phase alone, of `batch` sequences where they decode.
class PureSteps {
 public:
  explicit PureSteps(const DevicePeaks& peaks) : meter_(peaks, 0) {}

  void expect(Phase phase, std::int64_t batch) {
    phase_ = phase;
    batch_ = batch;
    is_first_ = true;
    meter_.reset();
  }
  void add(const StepRecord& step) {
    const bool fits = phase_ == Phase::kPrefill
                          ? step.num_decode_tokens == 0
                          : step.num_prefill_tokens == 0 && step.num_decode_tokens == batch_;
    // The first decode step touches new memory; a prompt's first step is all that there may be.
    if (fits && (phase_ == Phase::kPrefill || !std::exchange(is_first_, false))) meter_.add_step(step);
  }
  const PhaseTotals& totals() const { return meter_.totals(phase_); }

 private:
  UtilizationMeter meter_;
  Phase phase_ = Phase::kPrefill;
  std::int64_t batch_ = 0;
  bool is_first_ = true;
};

Request random_request(std::mt19937& random, std::int64_t vocab_size, std::int64_t num_tokens,
                       std::int32_t max_tokens) {
  std::uniform_int_distribution<std::int32_t> token(0, static_cast<std::int32_t>(vocab_size) - 1);
  Request request;
  for (std::int64_t i = 0; i < num_tokens; ++i) request.prompt.push_back(token(random));
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  request.sampling.max_tokens = max_tokens;
  return request;
}

void run(Engine& engine, const std::vector<Request>& requests) {
  std::vector<std::unique_ptr<Stream>> streams;
  for (const Request& request : requests) streams.push_back(engine.submit(request));
  for (const auto& stream : streams)
    while (const auto event = stream->next())
      if (event->finish_reason == FinishReason::kError) throw std::runtime_error(event->error);
}

// Of the runs by which a machine that did something else meanwhile is told.
PhaseTotals middle_of(std::vector<PhaseTotals> runs) {
  std::erase_if(runs, [](const PhaseTotals& run) { return run.steps == 0; });
  if (runs.empty()) return {};
  const auto middle = runs.begin() + std::ssize(runs) / 2;
  std::ranges::nth_element(
      runs, middle, {}, [](const PhaseTotals& run) { return run.wall_ns / static_cast<double>(run.steps); });
  return *middle;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

StepTimes measure_steps(std::shared_ptr<LoadedModel> model, const MeasuredShapes& shapes) {
  const DevicePeaks device = metered_peaks(*model);
  const Peaks peaks = device.vendor().bandwidth > 0 ? device.vendor() : device.attainable();
  const Estimate estimate = diagnosed(*model, shapes.engine.kv_dtype).estimate();
  PureSteps steps(device);
  EngineOptions options = shapes.engine;
  const std::int64_t decode_tokens = shapes.depth + kDecodeSteps + options.block_size;
  options.max_context =
      std::max(shapes.prompt_tokens + 2, shapes.most_sequences * decode_tokens + options.block_size);
  options.max_sequences =
      static_cast<std::int32_t>(std::min<std::int64_t>(shapes.most_sequences, options.max_batched_tokens));
  Engine engine(model, options, [&steps](const StepRecord& step) { steps.add(step); });
  std::mt19937 random(kSeed);
  const std::int64_t vocab_size = model->config.vocab_size;

  const auto prompt = [&] { return random_request(random, vocab_size, shapes.prompt_tokens, 1); };
  const auto measured = [&](Phase phase, std::int64_t batch, const auto& requests) {
    std::vector<PhaseTotals> runs;
    for (int i = 0; i < kRuns; ++i) {
      steps.expect(phase, batch);
      run(engine, requests());
      runs.push_back(steps.totals());
    }
    return middle_of(std::move(runs));
  };

  for (const auto start = Clock::now(); seconds_since(start) < kWarmSeconds;) run(engine, {prompt()});
  PhaseTotalsArray totals;
  totals[static_cast<std::size_t>(Phase::kPrefill)] =
      measured(Phase::kPrefill, 0, [&] { return std::vector{prompt()}; });

  // A larger batch holds the smaller one's prompts, which the prefix cache knows.
  const auto start = Clock::now();
  std::map<std::int64_t, StepModel> by_batch;
  std::vector<Request> requests;
  for (std::int64_t batch = 1; batch <= options.max_sequences; batch *= 2) {
    if (batch > 1 && seconds_since(start) > kMostSeconds) break;
    while (std::ssize(requests) < batch) {
      requests.push_back(random_request(random, vocab_size, shapes.depth, kDecodeSteps));
      run(engine, {requests.back()});
    }
    const PhaseTotals decode = measured(Phase::kDecode, batch, [&] { return requests; });
    totals[static_cast<std::size_t>(Phase::kDecode)] = decode;
    if (decode.steps > 0) by_batch.emplace(batch, StepModel(totals, estimate, peaks));
  }
  return StepTimes(estimate, std::move(by_batch), peaks);
}

}  // namespace redline
