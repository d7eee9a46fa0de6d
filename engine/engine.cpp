#include "engine/engine.h"

#include <future>
#include <stdexcept>
#include <utility>

#include "engine/cache_size.h"
#include "engine/checkpoint.h"
#include "engine/engine_core.h"
#include "engine/memory.h"
#include "engine/model_shapes.h"
#include "engine/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights.h"

namespace redline {
namespace {

std::invalid_argument invalid(const std::string& what, std::int64_t value, std::int64_t low,
                              std::int64_t high) {
  return std::invalid_argument(what + " is " + std::to_string(value) + ", allowed are " +
                               std::to_string(low) + " to " + std::to_string(high));
}

void check_request(const Request& request, const ModelConfig& config, const EngineOptions& options,
                   std::int64_t max_context, std::int64_t tenants_context) {
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  if (prompt_tokens == 0) throw std::invalid_argument("the prompt is empty: it needs one token at least");
  if (prompt_tokens >= max_context)
    throw std::invalid_argument("the prompt has " + std::to_string(prompt_tokens) +
                                " tokens, the context holds " + std::to_string(max_context) +
                                " with one generated token at least");
  if (prompt_tokens >= tenants_context)
    throw std::invalid_argument("the prompt has " + std::to_string(prompt_tokens) +
                                " tokens, the tenant's share of the cache holds " +
                                std::to_string(tenants_context) + " with one generated token at least");
  for (const std::int32_t token : request.prompt)
    if (token < 0 || token >= config.vocab_size)
      throw invalid("a prompt token", token, 0, config.vocab_size - 1);
  if (request.n < 1 || request.n > options.max_sequences)
    throw invalid("n", request.n, 1, options.max_sequences);
  if (const auto error = invalid_sampling(request.sampling, config.vocab_size))
    throw std::invalid_argument(*error);
}

}  // namespace

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "abort";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

LoadedModel::LoadedModel() = default;
LoadedModel::~LoadedModel() = default;

std::shared_ptr<LoadedModel> LoadedModel::open(const std::string& reference, const ModelOptions& options) {
  const Checkpoint checkpoint(reference);
  auto model = std::make_shared<LoadedModel>();
  model->config = checkpoint.config();
  model->sampling = read_sampling_defaults(checkpoint);
  model->ops = options.make_ops ? options.make_ops() : make_cpu_ops(options.cpu);
  require_memory(reference, weight_memory_bytes(checkpoint, *model->ops, options.dtype),
                 available_memory_bytes(*model->ops));
  // A tokenizer is built on one core: beside the weights, not before them.
  auto tokenizer = std::async(std::launch::async, [&] {
    if (!checkpoint.has_tokenizer()) return;
    TokenizerSpec spec = checkpoint.tokenizer_spec();
    model->end_tokens = spec.end_of_generation_ids;
    model->tokenizer = std::make_unique<Tokenizer>(std::move(spec));
  });
  model->weights = std::make_unique<ModelWeights>(
      load_weights(checkpoint, *model->ops, {.dtype = options.dtype, .progress = options.progress}));
  tokenizer.get();
  return model;
}

std::shared_ptr<LoadedModel> LoadedModel::random(const std::string& shape, DType dtype,
                                                 const ModelOptions& options) {
  const std::optional<ModelConfig> config = named_shape(shape);
  if (!config)
    throw std::invalid_argument("there is no shape named " + shape + "; known are " + shape_names());
  auto model = std::make_shared<LoadedModel>();
  model->config = *config;
  model->ops = options.make_ops ? options.make_ops() : make_cpu_ops(options.cpu);
  require_memory(shape + " in " + name(dtype), weight_memory_bytes(*config, dtype, *model->ops),
                 available_memory_bytes(*model->ops));
  model->weights = std::make_unique<ModelWeights>(random_weights(model->config, dtype, *model->ops, 1));
  return model;
}

Stream::Stream(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}

Stream::~Stream() { abort(); }

std::optional<OutputEvent> Stream::next() { return next_until(std::chrono::steady_clock::time_point::max()); }

std::optional<OutputEvent> Stream::next_until(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(state_->mutex);
  const auto ready = [this] { return !state_->events.empty() || state_->num_unfinished == 0; };
  if (deadline == std::chrono::steady_clock::time_point::max())
    state_->arrived.wait(lock, ready);
  else
    state_->arrived.wait_until(lock, deadline, ready);
  if (state_->events.empty()) return std::nullopt;
  OutputEvent event = std::move(state_->events.front());
  state_->events.pop_front();
  return event;
}

bool Stream::finished() const {
  const std::lock_guard lock(state_->mutex);
  return state_->num_unfinished == 0 && state_->events.empty();
}

void Stream::abort() {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->num_unfinished == 0) return;
  }
  const std::shared_ptr<Inbox> inbox = state_->inbox.lock();
  if (!inbox) return;
  {
    const std::lock_guard lock(inbox->mutex);
    inbox->aborts.push_back(state_);
  }
  inbox->arrived.notify_all();
}

RequestUsage Stream::usage() const {
  const std::lock_guard lock(state_->mutex);
  return state_->usage;
}

Engine::Engine(std::shared_ptr<LoadedModel> model, const EngineOptions& options, StepObserver observer,
               RequestObserver request_observer)
    : model_(std::move(model)), options_(options) {
  core_ = std::make_unique<EngineCore>(
      *model_, options, plan_cache(model_->config, options, available_memory_bytes(*model_->ops)),
      std::move(observer), std::move(request_observer));
}

Engine::~Engine() = default;

std::unique_ptr<Stream> Engine::submit(Request request, std::function<void()> on_event) {
  check_request(request, model_->config, options_, core_->max_context(), core_->max_context(request.tenant));
  return std::unique_ptr<Stream>(new Stream(core_->submit(std::move(request), std::move(on_event))));
}

std::int64_t Engine::save_session(std::span<const std::int32_t> tokens, const std::string& path) {
  return core_->save_session(tokens, path);
}

std::int64_t Engine::load_session(const std::string& path) { return core_->load_session(path); }

EngineStats Engine::stats() const { return core_->stats(); }

std::int64_t Engine::num_waiting(const std::string& tenant) const { return core_->num_waiting(tenant); }

std::int64_t Engine::max_context() const { return core_->max_context(); }

}  // namespace redline
