// The step loop behind Engine: one thread that turns queued requests into events.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/answer.h"
#include "engine/batch.h"
#include "engine/cache_size.h"
#include "engine/constraint/mask_worker.h"
#include "engine/engine.h"
#include "engine/logits.h"
#include "engine/meter/request_clock.h"
#include "engine/meter/step_forecast.h"
#include "engine/model.h"
#include "kvcache/kv_cache.h"
#include "scheduler/scheduler.h"

namespace redline {

struct Inbox;

/// What a Stream and the step thread share about one request.
struct StreamState {
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<OutputEvent> events;
  std::int32_t num_unfinished = 0;  // answers whose last event has not been queued
  RequestUsage usage;
  std::function<void()> on_event;  // set before the step thread sees the state
  std::weak_ptr<Inbox> inbox;
  std::vector<SequenceId> sequences;  // of its answers that run; the step thread's alone
};

/// What callers leave for the step thread. Outlives the engine where a stream does.
struct Inbox {
  struct Submission {
    Request request;
    std::shared_ptr<StreamState> stream;
  };
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<Submission> submissions;
  std::map<std::string, std::int64_t> num_waiting;  // by tenant: requests that no step has taken up yet
  std::vector<std::shared_ptr<StreamState>> aborts;
  std::vector<std::packaged_task<void()>> tasks;  // to run between steps
  bool stopping = false;
  std::string failure;  // why the step thread ended, if it did
};

class EngineCore {
 public:
  EngineCore(LoadedModel& model, const EngineOptions& options, const CacheSize& size, StepObserver observer,
             RequestObserver request_observer);
  ~EngineCore();

  /// Requires a request that Engine::submit has checked.
  std::shared_ptr<StreamState> submit(Request request, std::function<void()> on_event);
  std::int64_t save_session(std::span<const std::int32_t> tokens, const std::string& path);
  std::int64_t load_session(const std::string& path);
  EngineStats stats() const;
  std::int64_t num_waiting(const std::string& tenant) const;
  std::int64_t max_context() const { return max_context_; }
  /// The longest sequence of the tenant.
  std::int64_t max_context(const std::string& tenant) const;

 private:
  // A request whose answers are not all finished.
  struct Job {
    std::shared_ptr<StreamState> stream;
    std::string tenant;
    std::vector<Answer> answers;
    std::vector<bool> finished;  // by answer
    RequestUsage usage;
    RequestClock clock;
    std::shared_ptr<EnergyShare> energy;  // null where no sensor tells
    std::size_t num_preempted = 0;        // of its sequences
    std::function<void(const RequestUsage&)> on_end;
    std::int32_t num_prompt_logprobs = -1;                     // -1: none are asked for
    std::vector<std::vector<TokenLogprob>> prompt_logprobs{};  // so far; empty ones where logits are broken
  };
  // What a sequence computes: one answer of a job, and at first the prompt of all.
  struct Running {
    std::shared_ptr<Job> job;
    std::size_t answer = 0;
    std::size_t num_to_fork = 0;  // answers after this one that begin when the prompt is computed
    bool is_preempted = false;
  };
  // A step's result for one sequence: its own answer's event, then those of the answers that fork from it.
  struct Outcome {
    Sequence* sequence = nullptr;
    std::vector<OutputEvent> events;
  };

  void run();
  void step();
  void drain_inbox();
  /// Waits for `task`, which the step thread runs; throws what it throws.
  void run_between_steps(std::function<void()> task);
  void begin(Inbox::Submission submission);
  BatchView make_batch(const StepPlan& plan);
  void leave_queue(const std::string& tenant);
  void take_up(const StepPlan& plan, std::int64_t start_ns);
  void attribute(const StepPlan& plan, const StepCounts& counts);
  StepPlan schedule();
  const StepCounts& compute(const StepPlan& plan, const BatchView& batch);
  std::vector<Outcome> sample(const StepPlan& plan);
  /// The same on a backend that chooses tokens itself: what each answer asks, and what it is given.
  std::vector<ChoiceRequest> ask(const StepPlan& plan);
  std::vector<Outcome> take(const StepPlan& plan);
  void conclude(Outcome& outcome);
  void deliver(Outcome outcome);
  void advance(SequenceId id, OutputEvent event);
  void record(const BatchView& batch, const StepCounts& counts, const StepLoad& load, std::int64_t start_ns);
  void emit();
  void settle_energy(std::int64_t now_ns);
  void abort_job(const std::shared_ptr<StreamState>& stream);
  void end_job(const std::shared_ptr<Job>& job, FinishReason reason, const std::string& error);
  void fail_everything(const std::string& why);
  void publish_stats();

  LoadedModel& model_;
  TokenSampling* const token_sampling_;  // the backend's, or null
  StepObserver observer_;
  RequestObserver request_observer_;
  const std::int64_t max_context_;
  KvCache cache_;
  BlockAllocator blocks_;
  PrefixCache prefix_cache_;
  std::optional<StepForecast> forecast_;  // where a pace is asked for
  const double target_step_s_;
  const DType kv_dtype_;
  Scheduler scheduler_;
  Model transformer_;
  Batch batch_;
  Logits logits_;
  std::vector<float> row_;
  MaskWorker masks_;  // of the next step, while this one's forward pass runs
  std::unordered_map<SequenceId, Running> running_;
  std::vector<std::pair<std::shared_ptr<Job>, OutputEvent>> events_;  // of this step, not yet emitted
  SequenceId next_sequence_ = 1;
  std::int64_t num_steps_ = 0, num_late_steps_ = 0;
  std::int64_t last_step_end_ns_ = 0;  // 0: idle since
  double busy_ns_ = 0;                 // of the device, in all steps
  EnergyMeter energy_;
  std::array<Counts, kNumPhases> wasted_since_{};
  std::vector<SequenceStep> sequence_steps_;  // of this step
  std::vector<const RequestUsage*> preempted_;

  std::shared_ptr<Inbox> inbox_;
  mutable std::mutex stats_mutex_;
  EngineStats stats_;
  std::thread thread_;
};

}  // namespace redline
