#include "engine/engine_core.h"

#include <pthread.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/meter/attribution.h"
#include "engine/meter/explanation.h"
#include "engine/meter/padding.h"
#include "engine/meter/probe.h"
#include "engine/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights.h"
#include "kernels/nvtx.h"

namespace redline {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Of a sequence's FLOPs in a step.
double wasted_share(const Counts& counts) {
  const std::int64_t executed = counts.executed_flops();
  if (executed == 0) return counts.wasted_tokens > 0 ? 1 : 0;
  return static_cast<double>(executed - counts.useful_flops()) / static_cast<double>(executed);
}

// The tokens of a prompt that its rows of logits foretell: a row the one after its own. What is left is the
// row that the first new token is chosen from.
std::span<const std::int32_t> foretold(const ScheduledSequence& scheduled) {
  if (!scheduled.needs_all_logits) return {};
  const std::int32_t first = scheduled.sequence->num_computed_tokens + scheduled.num_recomputed + 1;
  const std::int32_t count = scheduled.num_tokens - scheduled.num_recomputed - scheduled.needs_logits;
  return std::span(scheduled.sequence->tokens)
      .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

std::optional<StepForecast> forecast_of(LoadedModel& model, const EngineOptions& options) {
  if (!options.target_tpot_s) return std::nullopt;
  const DevicePeaks device = peaks_for(*model.ops);
  return StepForecast(diagnosed(model, options.kv_dtype).estimate(),
                      device.vendor().bandwidth > 0 ? device.vendor() : device.attainable());
}

}  // namespace

EngineCore::EngineCore(LoadedModel& model, const EngineOptions& options, const CacheSize& size,
                       StepObserver observer, RequestObserver request_observer)
    : model_(model),
      token_sampling_(dynamic_cast<TokenSampling*>(model.ops.get())),
      observer_(std::move(observer)),
      request_observer_(std::move(request_observer)),
      max_context_(size.max_context),
      cache_(make_cache(size.cache, *model.ops)),
      blocks_(size.cache.num_blocks),
      prefix_cache_(blocks_, size.cache.block_size),
      forecast_(forecast_of(model, options)),
      target_step_s_(options.target_tpot_s.value_or(0)),
      kv_dtype_(options.kv_dtype),
      scheduler_({.max_num_batched_tokens = options.max_batched_tokens,
                  .max_num_seqs = options.max_sequences,
                  .max_chunk_tokens = options.max_batched_tokens,
                  .target_step_s = target_step_s_,
                  .step_seconds = [this](const StepLoad& load) { return forecast_->seconds(load); },
                  .enable_prefix_cache = options.prefix_cache,
                  .static_batches = !options.continuous_batching,
                  .reserved_tokens = options.paged_cache ? 0 : static_cast<std::int32_t>(size.max_context),
                  .window = static_cast<std::int32_t>(model.config.window()),
                  .kv_share = options.tenant_kv_share,
                  .kv_shares = options.tenant_kv_shares},
                 blocks_, prefix_cache_),
      transformer_(model.config, *model.weights, size.max_context),
      batch_(size.cache.block_size, size.cache.num_blocks),
      logits_(model.config.vocab_size),
      energy_(options.sensors),
      inbox_(std::make_shared<Inbox>()) {
  transformer_.reserve(*model.ops, options.max_batched_tokens, max_context_);
  logits_.reserve(*model.ops, options.max_sequences + SchedulerOptions().max_prompt_logits);
  publish_stats();
  thread_ = std::thread([this] { run(); });
}

EngineCore::~EngineCore() {
  {
    const std::lock_guard lock(inbox_->mutex);
    inbox_->stopping = true;
  }
  inbox_->arrived.notify_all();
  thread_.join();
}

std::shared_ptr<StreamState> EngineCore::submit(Request request, std::function<void()> on_event) {
  auto stream = std::make_shared<StreamState>();
  stream->on_event = std::move(on_event);
  stream->num_unfinished = request.n;
  stream->inbox = inbox_;
  stream->usage.arrival_ns = now_ns();
  stream->usage.received_ns = request.received_ns != 0 ? request.received_ns : stream->usage.arrival_ns;
  stream->usage.prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  {
    const std::lock_guard lock(inbox_->mutex);
    if (!inbox_->failure.empty()) throw std::runtime_error("the engine has stopped: " + inbox_->failure);
    inbox_->num_waiting[request.tenant] += 1;
    inbox_->submissions.push_back({std::move(request), stream});
  }
  inbox_->arrived.notify_all();
  return stream;
}

EngineStats EngineCore::stats() const {
  EngineStats stats;
  {
    const std::lock_guard lock(stats_mutex_);
    stats = stats_;
  }
  const std::lock_guard lock(inbox_->mutex);
  stats.num_waiting += std::ssize(inbox_->submissions);
  for (const Inbox::Submission& submission : inbox_->submissions) {
    const std::string& name = submission.request.tenant;
    const auto found = std::ranges::find(stats.tenants, name, &TenantUse::name);
    if (found == stats.tenants.end())
      stats.tenants.push_back({name, 0, 1, 0});
    else
      ++found->num_waiting;
  }
  stats.failure = inbox_->failure;
  return stats;
}

std::int64_t EngineCore::num_waiting(const std::string& tenant) const {
  const std::lock_guard lock(inbox_->mutex);
  const auto found = inbox_->num_waiting.find(tenant);
  return found == inbox_->num_waiting.end() ? 0 : found->second;
}

std::int64_t EngineCore::max_context(const std::string& tenant) const {
  return std::min<std::int64_t>(max_context_, std::int64_t{scheduler_.capacity_tokens(tenant)} + 1);
}

void EngineCore::run() {
  pthread_setname_np(pthread_self(), "engine");  // for debuggers, and whoever dumps stacks
  try {
    for (;;) {
      {
        std::unique_lock lock(inbox_->mutex);
        if (!scheduler_.has_work()) {
          last_step_end_ns_ = 0;
          inbox_->arrived.wait(lock, [this] {
            return inbox_->stopping || !inbox_->submissions.empty() || !inbox_->aborts.empty() ||
                   !inbox_->tasks.empty();
          });
        }
        if (inbox_->stopping) break;
      }
      step();
    }
    fail_everything({});
  } catch (const std::exception& e) {
    fail_everything(e.what());
  }
}

void EngineCore::step() {
  const std::int64_t start_ns = now_ns();
  if (energy_.is_on() && last_step_end_ns_ == 0) energy_.begin(start_ns);
  drain_inbox();  // from here on the step's requests are fixed

  const StepPlan plan = schedule();  // from here on who computes how much, in which blocks
  take_up(plan, start_ns);
  publish_stats();
  if (plan.empty()) return;  // all that was queued has been aborted

  const BatchView batch = make_batch(plan);         // from here on every operation's shape, and so its cost
  const StepCounts& counts = compute(plan, batch);  // from here on what it cost
  attribute(plan, counts);

  std::vector<Outcome> outcomes = token_sampling_ ? take(plan) : sample(plan);
  scheduler_.commit(plan);  // from here on its tokens are in the cache
  for (Outcome& outcome : outcomes) deliver(std::move(outcome));

  record(batch, counts, plan.load, start_ns);
  emit();
}

StepPlan EngineCore::schedule() {
  const NvtxRange range("schedule");
  return scheduler_.schedule();
}

// The step's operations, and the choice of its tokens where the backend makes it.
const StepCounts& EngineCore::compute(const StepPlan& plan, const BatchView& batch) {
  const bool decodes = std::ranges::all_of(
      batch.sequences, [](const SequenceWork& work) { return work.phase == Phase::kDecode; });
  const NvtxRange range(decodes ? "decode" : "prefill");
  Ops& ops = *model_.ops;
  ops.begin_step(batch);
  ops.copy_kv_blocks(cache_.layers(), plan.block_copies);
  const TensorView logits = logits_.rows(ops, batch.num_logit_rows());
  transformer_.forward(ops, batch, cache_, logits);
  if (token_sampling_) {
    token_sampling_->start_step();
    token_sampling_->choose(logits, ask(plan));
  }
  return ops.end_step();
}

void EngineCore::drain_inbox() {
  std::vector<Inbox::Submission> submissions;
  std::vector<std::shared_ptr<StreamState>> aborts;
  std::vector<std::packaged_task<void()>> tasks;
  {
    const std::lock_guard lock(inbox_->mutex);
    submissions.swap(inbox_->submissions);
    aborts.swap(inbox_->aborts);
    tasks.swap(inbox_->tasks);
  }
  for (Inbox::Submission& submission : submissions) begin(std::move(submission));
  for (const auto& stream : aborts) abort_job(stream);
  for (auto& task : tasks) task();
  if (!submissions.empty()) publish_stats();  // they wait in the scheduler now
}

void EngineCore::begin(Inbox::Submission submission) {
  Request& request = submission.request;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  std::int64_t num_new = max_context(request.tenant) - prompt_tokens;
  if (request.sampling.max_tokens >= 0)
    num_new = std::min<std::int64_t>(num_new, request.sampling.max_tokens);
  auto job = std::make_shared<Job>();
  job->stream = std::move(submission.stream);
  job->tenant = request.tenant;
  job->on_end = std::move(request.on_end);
  job->usage = job->stream->usage;
  job->num_prompt_logprobs = request.sampling.num_prompt_logprobs;
  if (energy_.is_on()) job->energy = std::make_shared<EnergyShare>();
  job->finished.resize(static_cast<std::size_t>(request.n));
  std::erase(request.sampling.stop, std::string());
  const auto sampling = std::make_shared<const SharedSampling>(std::move(request.sampling), request.prompt);
  job->answers.reserve(static_cast<std::size_t>(request.n));
  for (std::int32_t i = 0; i < request.n; ++i)
    job->answers.emplace_back(sampling, request.constraint, i, static_cast<std::int32_t>(num_new),
                              model_.tokenizer.get(), model_.end_tokens);
  for (Answer& answer : job->answers) answer.look_ahead(masks_);
  SequenceSpec spec;
  spec.id = job->usage.id = next_sequence_++;
  spec.prompt = std::move(request.prompt);
  spec.max_num_tokens = static_cast<std::int32_t>(prompt_tokens + std::max<std::int64_t>(num_new, 1));
  spec.n = request.n;
  spec.priority = request.priority;
  spec.tenant = std::move(request.tenant);
  spec.cache_salt = std::move(request.cache_salt);
  spec.needs_prompt_logits = job->num_prompt_logprobs >= 0;
  spec.use_prefix_cache = request.use_prefix_cache && !spec.needs_prompt_logits;
  const AddResult added = scheduler_.add(std::move(spec));
  if (!added.sequence) return end_job(job, FinishReason::kError, added.error);
  running_[added.sequence->id] = {job, 0, job->answers.size() - 1};
  job->stream->sequences = {added.sequence->id};
}

BatchView EngineCore::make_batch(const StepPlan& plan) {
  batch_.clear();
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const Sequence& sequence = *scheduled.sequence;
    BatchEntry entry;
    entry.tokens = std::span(sequence.tokens)
                       .subspan(static_cast<std::size_t>(sequence.num_computed_tokens),
                                static_cast<std::size_t>(scheduled.num_tokens));
    entry.num_cached = sequence.num_computed_tokens;
    entry.num_recomputed = scheduled.num_recomputed;
    entry.blocks = &sequence.blocks;
    entry.phase = scheduled.is_decode ? Phase::kDecode : Phase::kPrefill;
    entry.logits = scheduled.needs_all_logits ? LogitRows::kAll
                   : scheduled.needs_logits   ? LogitRows::kLast
                                              : LogitRows::kNone;
    batch_.add(entry);
  }
  return batch_.view();
}

// Requests whose first step this is wait no more, nor do those that have blocks again.
void EngineCore::take_up(const StepPlan& plan, std::int64_t start_ns) {
  for (const Sequence* sequence : plan.preempted) {
    Running& running = running_.at(sequence->id);
    running.is_preempted = true;
    Job& job = *running.job;
    if (++job.num_preempted == job.stream->sequences.size()) job.clock.preempt(start_ns, busy_ns_);
  }
  for (const ScheduledSequence& scheduled : plan.sequences) {
    Running& running = running_.at(scheduled.sequence->id);
    Job& job = *running.job;
    if (std::exchange(running.is_preempted, false)) {
      --job.num_preempted;
      job.clock.resume(start_ns, busy_ns_);
    }
    if (job.usage.scheduled_ns != 0) continue;
    job.usage.scheduled_ns = start_ns;
    job.clock.start(start_ns, busy_ns_);
    leave_queue(job.tenant);
  }
}

void EngineCore::leave_queue(const std::string& tenant) {
  const std::lock_guard lock(inbox_->mutex);
  const auto found = inbox_->num_waiting.find(tenant);
  if (--found->second == 0) inbox_->num_waiting.erase(found);
}

void EngineCore::attribute(const StepPlan& plan, const StepCounts& counts) {
  busy_ns_ += counts.busy_ns[0] + counts.busy_ns[1];
  sequence_steps_.clear();
  preempted_.clear();
  for (const Sequence* sequence : plan.preempted) preempted_.push_back(&running_.at(sequence->id).job->usage);
  for (std::size_t i = 0; i < plan.sequences.size(); ++i) {
    const ScheduledSequence& scheduled = plan.sequences[i];
    Job& job = *running_.at(scheduled.sequence->id).job;
    RequestUsage& usage = job.usage;
    const Phase phase = scheduled.is_decode ? Phase::kDecode : Phase::kPrefill;
    (scheduled.is_decode ? usage.decode : usage.prefill) += counts.sequences[i];
    const double own_ns = attributed_busy_ns(counts, phase, i);
    usage.device_ns[static_cast<std::size_t>(phase)] += own_ns;
    job.clock.add(phase, own_ns, wasted_share(counts.sequences[i]));
    if (job.energy) energy_.charge(job.energy, own_ns);
    usage.cached_tokens = std::max<std::int64_t>(usage.cached_tokens, scheduled.sequence->num_cached_tokens);
    sequence_steps_.push_back({&usage, phase, scheduled.num_tokens, scheduled.num_recomputed});
  }
}

// Chooses a token for every sequence with logits.
std::vector<EngineCore::Outcome> EngineCore::sample(const StepPlan& plan) {
  const NvtxRange range("sample");
  const TensorView logits = logits_.on_host(*model_.ops);
  std::vector<Outcome> outcomes;
  std::int64_t num_read = 0;
  const auto next_row = [&] {
    return std::span(logits.f32(num_read++), static_cast<std::size_t>(logits.cols));
  };
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const Running& running = running_.at(scheduled.sequence->id);
    Job& job = *running.job;
    for (const std::int32_t token : foretold(scheduled))
      job.prompt_logprobs.push_back(logprobs_of(next_row(), token, job.num_prompt_logprobs));
    if (!scheduled.needs_logits) continue;
    const std::span row = next_row();
    Outcome outcome{scheduled.sequence, {}};
    outcome.events.resize(running.num_to_fork + 1);
    for (std::size_t i = running.num_to_fork; i > 0; --i) {  // sampling changes the row: copies first
      row_.assign(row.begin(), row.end());
      outcome.events[i] = job.answers[running.answer + i].step(row_);
    }
    outcome.events[0] = job.answers[running.answer].step(row);
    conclude(outcome);
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

// The first event tells of the prompt. Where logits are broken, the sequence ends here, before the commit
// could publish its blocks.
void EngineCore::conclude(Outcome& outcome) {
  const Running& running = running_.at(outcome.sequence->id);
  OutputEvent& event = outcome.events[0];
  event.prompt_logprobs = std::exchange(running.job->prompt_logprobs, {});
  if (std::ranges::any_of(event.prompt_logprobs, [](const auto& token) { return token.empty(); }))
    event = running.job->answers[running.answer].end(
        FinishReason::kError, "the model's logits hold NaN or infinity, in the prompt");
  if (event.finish_reason == FinishReason::kError) scheduler_.finish(*outcome.sequence);
}

// In sample()'s order: a prompt's tokens; then the answers that fork from a sequence, the last first, and its
// own.
std::vector<ChoiceRequest> EngineCore::ask(const StepPlan& plan) {
  const auto vocab_size = static_cast<std::size_t>(model_.config.vocab_size);
  std::vector<ChoiceRequest> requests;
  std::int32_t row = 0;
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const Running& running = running_.at(scheduled.sequence->id);
    Job& job = *running.job;
    for (const std::int32_t token : foretold(scheduled))
      requests.push_back(ask_logprobs(row++, token, job.num_prompt_logprobs, vocab_size));
    if (!scheduled.needs_logits) continue;
    for (std::size_t i = running.num_to_fork + 1; i-- > 0;)
      requests.push_back(job.answers[running.answer + i].ask(row, vocab_size));
    row += 1;
  }
  return requests;
}

std::vector<EngineCore::Outcome> EngineCore::take(const StepPlan& plan) {
  const NvtxRange range("sample");
  const std::vector<ChosenToken> chosen = token_sampling_->chosen();
  std::vector<Outcome> outcomes;
  auto next = chosen.begin();
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const Running& running = running_.at(scheduled.sequence->id);
    Job& job = *running.job;
    for (std::size_t i = foretold(scheduled).size(); i > 0; --i)
      job.prompt_logprobs.push_back(logprobs_of(*next++));
    if (!scheduled.needs_logits) continue;
    Outcome outcome{scheduled.sequence, {}};
    outcome.events.resize(running.num_to_fork + 1);
    for (std::size_t i = running.num_to_fork + 1; i-- > 0;)
      outcome.events[i] = job.answers[running.answer + i].step(*next++);
    conclude(outcome);
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

void EngineCore::deliver(Outcome outcome) {
  Sequence& sequence = *outcome.sequence;
  const auto found = running_.find(sequence.id);
  if (found == running_.end())
    return;  // an answer of the same request broke earlier in this step and ended it
  Running& running = found->second;
  const std::shared_ptr<Job> job = running.job;
  if (outcome.events[0].finish_reason == FinishReason::kError)
    return end_job(job, FinishReason::kError, outcome.events[0].error);
  running.num_to_fork = 0;
  std::vector<SequenceId> ids = {sequence.id};
  for (std::size_t i = 1; i < outcome.events.size(); ++i) {
    ids.push_back(next_sequence_++);
    scheduler_.fork(sequence, ids.back());
    running_[ids.back()] = {job, i, 0};
    job->stream->sequences.push_back(ids.back());
  }
  for (std::size_t i = 0; i < ids.size(); ++i) advance(ids[i], std::move(outcome.events[i]));
}

// The answer's next token joins its sequence, or the sequence ends.
void EngineCore::advance(SequenceId id, OutputEvent event) {
  Sequence& sequence = *scheduler_.find(id);
  const Running running = running_.at(id);
  Job& job = *running.job;
  job.usage.generated_tokens += std::ssize(event.token_ids);
  if (job.usage.first_token_ns == 0) job.usage.first_token_ns = now_ns();
  if (event.finish_reason == FinishReason::kNone) {
    scheduler_.append_token(sequence, event.token_ids.back());
    job.answers[running.answer].look_ahead(masks_);  // when all of the step are sampled: they share locks
  } else {
    scheduler_.finish(sequence);
    running_.erase(id);
    std::erase(job.stream->sequences, id);
    job.finished[running.answer] = true;
    if (job.num_preempted > 0 && job.num_preempted == job.stream->sequences.size())
      job.clock.preempt(now_ns(), busy_ns_);
  }
  events_.emplace_back(running.job, std::move(event));
}

void EngineCore::record(const BatchView& batch, const StepCounts& counts, const StepLoad& load,
                        std::int64_t start_ns) {
  num_steps_ += 1;
  if (forecast_) {
    const std::int64_t since_ns = last_step_end_ns_ ? last_step_end_ns_ : start_ns;
    const double seconds = static_cast<double>(now_ns() - since_ns) * 1e-9;
    forecast_->learn(load, seconds);
    num_late_steps_ += seconds > target_step_s_;
  }
  publish_stats();
  const std::int64_t end_ns = now_ns();
  if (observer_) {
    StepRecord record;
    record.counts = &counts;
    record.start_ns = start_ns;
    record.wall_ns = end_ns - start_ns;
    record.gap_ns = last_step_end_ns_ ? start_ns - last_step_end_ns_ : 0;
    record.num_sequences = std::ssize(batch.sequences);
    for (const SequenceWork& work : batch.sequences)
      (work.phase == Phase::kDecode ? record.num_decode_tokens : record.num_prefill_tokens) += work.num_new;
    record.sequences = sequence_steps_;
    record.preempted = preempted_;
    record.stats = &stats_;  // which this thread alone writes
    record.padding = padding_of(*model_.ops, batch, counts, kv_dtype_);
    record.wasted_since = std::exchange(wasted_since_, {});
    observer_(record);
  }
  last_step_end_ns_ = end_ns;
}

// What ends is told all its joules.
void EngineCore::settle_energy(std::int64_t now) {
  const bool ends = std::ranges::any_of(
      events_, [](const auto& event) { return event.second.finish_reason != FinishReason::kNone; });
  if (ends || energy_.is_due(now)) energy_.settle(now);
  for (auto& [job, event] : events_) job->usage.joules = job->energy->value();
  const std::lock_guard lock(stats_mutex_);
  stats_.energy = energy_.use();
}

void EngineCore::emit() {
  const std::int64_t time_ns = now_ns();
  if (energy_.is_on()) settle_energy(time_ns);
  for (auto& [job, event] : events_) {
    StreamState& stream = *job->stream;
    event.time_ns = time_ns;
    bool ends = false;
    {
      const std::lock_guard lock(stream.mutex);
      ends = event.finish_reason != FinishReason::kNone && --stream.num_unfinished == 0;
      if (ends) job->usage.finish_ns = time_ns;
      if (ends) job->usage.finish_reason = event.finish_reason;
      if (ends)
        job->usage.times = job->clock.end(job->usage.received_ns, job->usage.arrival_ns, time_ns, busy_ns_);
      stream.usage = job->usage;
      stream.events.push_back(std::move(event));
      stream.arrived.notify_all();
    }
    if (ends && job->on_end) job->on_end(job->usage);
    if (ends && request_observer_) request_observer_(job->usage);
    if (stream.on_event) stream.on_event();
  }
  events_.clear();
}

void EngineCore::abort_job(const std::shared_ptr<StreamState>& stream) {
  if (stream->sequences.empty()) return;  // finished meanwhile
  const std::shared_ptr<Job> job = running_.at(stream->sequences.front()).job;
  end_job(job, FinishReason::kAborted, {});
  emit();
}

// Ends every answer that still runs. A job of which nothing was delivered has computed in vain.
void EngineCore::end_job(const std::shared_ptr<Job>& job, FinishReason reason, const std::string& error) {
  if (job->usage.scheduled_ns == 0) leave_queue(job->tenant);
  for (const SequenceId id : std::exchange(job->stream->sequences, {})) {
    scheduler_.abort(id);
    running_.erase(id);
  }
  if (job->usage.generated_tokens == 0) {
    for (auto [phase, counts] :
         {std::pair{Phase::kPrefill, &job->usage.prefill}, {Phase::kDecode, &job->usage.decode}}) {
      wasted_since_[static_cast<std::size_t>(phase)] += *counts;
      *counts = counts->as_wasted();
    }
  }
  for (std::size_t i = 0; i < job->answers.size(); ++i) {
    if (job->finished[i]) continue;
    job->finished[i] = true;
    OutputEvent last = job->answers[i].end(reason, error);
    last.index = static_cast<std::int32_t>(i);
    events_.emplace_back(job, std::move(last));
  }
}

void EngineCore::fail_everything(const std::string& why) {
  {
    const std::lock_guard lock(inbox_->mutex);
    inbox_->failure = why.empty() ? "it was shut down" : why;
  }
  drain_inbox();
  const FinishReason reason = why.empty() ? FinishReason::kAborted : FinishReason::kError;
  while (!running_.empty()) end_job(std::shared_ptr<Job>(running_.begin()->second.job), reason, why);
  emit();
}

void EngineCore::publish_stats() {
  const SchedulerStats s = scheduler_.stats();
  const std::lock_guard lock(stats_mutex_);
  stats_.num_running = s.num_running;
  stats_.num_waiting = s.num_waiting;
  stats_.num_steps = num_steps_;
  stats_.num_preemptions = s.num_preemptions;
  stats_.num_late_steps = num_late_steps_;
  stats_.prefix_queried_tokens = s.num_prefix_queries;
  stats_.prefix_hit_tokens = s.num_prefix_hits;
  stats_.num_blocks = s.num_blocks;
  stats_.kv_usage = s.num_blocks ? static_cast<double>(s.num_used_blocks) / s.num_blocks : 0;
  stats_.kv_fragmentation = s.fragmentation;
  stats_.tenants.clear();
  for (const TenantStats& tenant : s.tenants)
    stats_.tenants.push_back({tenant.name, tenant.num_running, tenant.num_waiting, tenant.num_blocks});
  stats_.max_context = max_context_;
  stats_.kv_bytes = cache_.config().total_bytes();
}

}  // namespace redline
