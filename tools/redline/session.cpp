#include "tools/redline/session.h"

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "engine/meter/format.h"
#include "engine/meter/probe.h"
#include "engine/meter/step_forecast.h"
#include "engine/weights.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

constexpr auto kClockInterval = std::chrono::milliseconds(100);
constexpr auto kPollInterval = std::chrono::milliseconds(50);

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

RunSummary summary_of(const RequestUsage& usage, std::chrono::steady_clock::time_point start) {
  RunSummary run;
  run.wall_s = seconds_since(start);
  if (usage.first_token_ns != 0)
    run.ttft_s = static_cast<double>(usage.first_token_ns - usage.arrival_ns) * 1e-9;
  run.prompt_tokens = usage.prompt_tokens;
  run.cached_tokens = usage.cached_tokens;
  run.generated_tokens = usage.generated_tokens;
  return run;
}

}  // namespace

std::shared_ptr<LoadedModel> load_model(
    const std::string& reference, const ModelFlags& flags,
    const std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>& progress) {
  ModelOptions options = flags.options();
  ProgressBar bar("Loading");
  options.progress = [&](std::int64_t done, std::int64_t total) {
    bar.show(done, total);
    if (progress) progress(done, total);
  };
  return LoadedModel::open(reference, options);
}

const Tokenizer& tokenizer_of(const LoadedModel& model) {
  if (!model.tokenizer)
    throw std::runtime_error(model.config.name +
                             ": has no tokenizer, so takes no text; token ids from a file would do");
  return *model.tokenizer;
}

DevicePeaks metered_peaks(LoadedModel& model) {
  const DevicePeaks peaks = peaks_for(*model.ops);
  model.ops->ledger().set_peaks(peaks.attainable(), peaks.vendor());
  return peaks;
}

void warn_of_pace(LoadedModel& model, const EngineOptions& options) {
  if (!options.target_tpot_s) return;
  const DevicePeaks device = peaks_for(*model.ops);
  const StepForecast forecast(diagnosed(model, options.kv_dtype).estimate(),
                              device.vendor().bandwidth > 0 ? device.vendor() : device.attainable());
  if (forecast.least_s() > *options.target_tpot_s)
    std::fprintf(stderr,
                 "warning: --target-tpot %s is below the %s that one sequence takes at the peaks: it will be "
                 "missed\n",
                 format_duration(*options.target_tpot_s).c_str(),
                 format_duration(forecast.least_s()).c_str());
}

std::unique_ptr<TraceWriter> trace_to(const std::string& path, const std::string& model_name,
                                      const DevicePeaks& peaks) {
  if (path.empty()) return nullptr;
  return std::make_unique<TraceWriter>(path, "redline " + model_name, peaks);
}

void add_trace_flag(Flags& flags, std::string& path) {
  flags.text("--trace", "FILE",
             "Write a Chrome trace of steps, requests, cache and waterfall (opens in Perfetto)", path);
}

Session::Session(std::shared_ptr<LoadedModel> model, const EngineOptions& options,
                 const std::string& trace_path, std::unique_ptr<DeviceSensors> sensors)
    : meter_(metered_peaks(*model), model->weights->stored_bytes),
      diagnosed_(diagnosed(*model, options.kv_dtype)),
      sensors_(std::move(sensors)),
      trace_(trace_to(trace_path, model->config.name, meter_.peaks())),
      engine_(
          std::move(model), options, [this](const StepRecord& step) { observe(step); },
          [this](const RequestUsage& usage) {
            const std::lock_guard lock(mutex_);
            if (trace_) trace_->end_request(usage);
          }) {}

void Session::observe(const StepRecord& step) {
  const std::lock_guard lock(mutex_);
  meter_.add_step(step);
  if (trace_) trace_->add_step(step);
}

Reply Session::answer(Request request, const std::function<void(std::string_view)>& on_text) {
  Reply answer;
  const InterruptGuard interrupt;
  const auto start = std::chrono::steady_clock::now();
  const auto stream = engine_.submit(std::move(request));
  auto next_reading = start;
  {
    LiveLine live;
    while (!stream->finished()) {
      if (const auto event = stream->next_until(std::chrono::steady_clock::now() + kPollInterval)) {
        if (event->finish_reason == FinishReason::kError) throw std::runtime_error(event->error);
        on_text(event->text);
        answer.text += event->text;
        answer.token_ids.insert(answer.token_ids.end(), event->token_ids.begin(), event->token_ids.end());
        answer.logprobs.insert(answer.logprobs.end(), event->logprobs.begin(), event->logprobs.end());
        if (event->finish_reason != FinishReason::kNone) answer.finish_reason = event->finish_reason;
      }
      if (interrupt.requested() && !answer.interrupted) {
        answer.interrupted = true;
        stream->abort();
      }
      if (sensors_ && std::chrono::steady_clock::now() >= next_reading) {
        clock_.add(sensors_->read());
        next_reading = std::chrono::steady_clock::now() + kClockInterval;
      }
      if (live.due()) {
        const RunSummary run = summary_of(stream->usage(), start);
        const std::lock_guard lock(mutex_);
        live.show(meter_.live_line(run));
      }
    }
  }
  answer.summary = summary_of(stream->usage(), start);
  return answer;
}

nlohmann::ordered_json Session::utilization(const RunSummary& run) {
  const std::lock_guard lock(mutex_);
  return meter_.to_json(run);
}

std::string Session::report(const RunSummary& run) {
  const std::lock_guard lock(mutex_);
  return meter_.report(run);
}

Explanation Session::explanation(const RunSummary& run) {
  const std::lock_guard lock(mutex_);
  return explain(meter_, diagnosed_,
                 {.wall_s = run.wall_s, .clock = clock_.share_of(meter_.peaks().nominal_clock_hz)});
}

void Session::reset_meter() {
  const std::lock_guard lock(mutex_);
  meter_.reset();
}

void Session::close_trace() {
  const std::lock_guard lock(mutex_);
  if (trace_) trace_->close();
  trace_.reset();
}

}  // namespace redline
