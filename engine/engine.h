// The library's face: give it a model and requests, read streams of tokens, and ask what it costs.
//
//   Model loading:   auto model = redline::LoadedModel::open("model.gguf", {});
//   Running:         redline::Engine engine(model, {});
//                    auto stream = engine.submit(request);
//                    while (auto event = stream->next()) std::cout << event->text;
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/meter/energy_meter.h"
#include "engine/model_config.h"
#include "engine/request.h"
#include "engine/sampling_defaults.h"
#include "kernels/ops.h"

namespace redline {

class EngineCore;
class Tokenizer;
struct ModelWeights;
struct StreamState;

struct ModelOptions {
  std::optional<DType> dtype;  // re-quantise at load
  CpuOptions cpu;
  std::function<std::unique_ptr<Ops>()> make_ops;  // another backend than the CPU: make_cuda_ops, say
  std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)> progress;
};

/// Weights, tokenizer and backend of one model. Throws ModelFileError on a bad file and std::runtime_error
/// with both numbers when memory will not hold it.
struct LoadedModel {
  static std::shared_ptr<LoadedModel> open(const std::string& reference, const ModelOptions& options);
  /// A named shape (engine/model_shapes.h) with random weights; no tokenizer.
  static std::shared_ptr<LoadedModel> random(const std::string& shape, DType dtype,
                                             const ModelOptions& options);
  LoadedModel();
  ~LoadedModel();

  ModelConfig config;
  std::unique_ptr<Ops> ops;
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<Tokenizer> tokenizer;  // null where the files hold none, or for a random model
  std::vector<std::int32_t> end_tokens;  // end of generation
  SamplingDefaults sampling;             // what the files recommend
};

struct EngineOptions {
  DType kv_dtype = DType::kBF16;  // or kF32; on CPUs kQ8_0
  std::int32_t block_size = 16;
  std::int64_t max_context = 0;  // longest sequence; 0: the model's own, as far as memory goes
  std::int64_t kv_memory_bytes =
      0;  // 0: enough for max_context of one sequence, more where memory is plentiful
  std::int32_t max_batched_tokens = 512;
  std::int32_t max_sequences = 256;
  bool prefix_cache = true;
  /// False: static batches, and a cache place of max_context tokens for every sequence, as engines had
  /// before; for comparison (docs/signatures.md).
  bool continuous_batching = true, paged_cache = true;
  /// What sequences that decode should wait for a token at most: steps are cut and admissions wait for it, by
  /// a forecast that learns (engine/meter/step_forecast.h). Where one sequence alone takes longer, so does
  /// it.
  std::optional<double> target_tpot_s = std::nullopt;
  /// Share of the cache's blocks that a tenant's requests may hold, (0, 1]: of each, but for those named.
  double tenant_kv_share = 1;
  std::map<std::string, double> tenant_kv_shares{};
  /// What tells the device's energy, for the joules of each request; the engine's thread alone reads it.
  /// Null: nothing does.
  std::shared_ptr<DeviceSensors> sensors{};
};

/// A running request's output. Owned by the caller; destroying it aborts what still runs.
class Stream {
 public:
  ~Stream();
  /// The next event, waiting for it; nothing once every answer has finished.
  std::optional<OutputEvent> next();
  /// The same, giving up at `deadline`: then nothing, and finished() is false.
  std::optional<OutputEvent> next_until(std::chrono::steady_clock::time_point deadline);
  bool finished() const;
  /// Ends the request within one step; its last events say kAborted.
  void abort();
  /// Costs so far; exact once finished.
  RequestUsage usage() const;

 private:
  friend class Engine;
  explicit Stream(std::shared_ptr<StreamState> state);
  std::shared_ptr<StreamState> state_;
};

/// Of a tenant that has requests.
struct TenantUse {
  std::string name;
  std::int64_t num_running = 0, num_waiting = 0, num_blocks = 0;  // sequences, and blocks that they hold
};

struct EngineStats {
  std::int64_t num_running = 0, num_waiting = 0;
  std::int64_t num_steps = 0, num_preemptions = 0;
  std::int64_t prefix_queried_tokens = 0, prefix_hit_tokens = 0;
  double kv_usage = 0;          // of the pool's blocks, 0 to 1
  double kv_fragmentation = 0;  // of the slots that running sequences hold, without a known token
  std::int64_t max_context = 0, kv_bytes = 0, num_blocks = 0;
  std::int64_t num_late_steps = 0;    // that took longer than target_tpot_s, where there is one
  std::optional<EnergyUse> energy{};  // nothing where no sensor tells
  std::vector<TenantUse> tenants{};
  std::string failure{};  // why the engine ended, if it did: every request fails with it
};

/// One sequence's part of a step.
struct SequenceStep {
  const RequestUsage* request = nullptr;  // whose it is: what that has used so far
  Phase phase{};
  std::int32_t num_tokens = 0;      // computed
  std::int32_t num_recomputed = 0;  // of them, not for the first time
};

/// Called after every step, on the engine's thread. `wall_ns` from the step's start to its end; `gap_ns`
/// since the previous step's end, while work was queued. What it points to lives as long as the call.
struct StepRecord {
  const StepCounts* counts = nullptr;
  std::int64_t start_ns = 0, wall_ns = 0, gap_ns = 0;
  std::int64_t num_prefill_tokens = 0, num_decode_tokens = 0, num_sequences = 0;
  std::span<const SequenceStep> sequences{};         // in the order of those of `counts`
  std::span<const RequestUsage* const> preempted{};  // requests of which a sequence lost its blocks
  const EngineStats* stats = nullptr;                // after the step; null: there is no engine
  Counts padding{};  // rows that belong to no sequence, beside `counts` (engine/meter/padding.h)
  // Work that earlier steps counted as useful and that proved in vain since: its request was aborted, or
  // failed, before a token of it was delivered.
  std::array<Counts, kNumPhases> wasted_since{};
};
using StepObserver = std::function<void(const StepRecord&)>;
/// Called once a request's last answer has ended, however it did, on the engine's thread.
using RequestObserver = std::function<void(const RequestUsage&)>;

/// Thread-safe. One thread of its own runs the steps; it sleeps when there is no work.
class Engine {
 public:
  /// Throws std::runtime_error with both numbers when the cache will not fit in memory.
  Engine(std::shared_ptr<LoadedModel> model, const EngineOptions& options, StepObserver observer = {},
         RequestObserver request_observer = {});
  ~Engine();

  /// Queues a request. Throws std::invalid_argument naming the field and both numbers when it can never run.
  /// `on_event`, where given, is called on the engine's thread whenever the stream has new events: it must
  /// return at once, and may outlive the stream.
  std::unique_ptr<Stream> submit(Request request, std::function<void()> on_event = {});
  /// Writes K and V of the longest prefix of `tokens` that the prefix cache holds, in whole blocks, and
  /// returns how many tokens those are. Throws std::runtime_error naming the file.
  std::int64_t save_session(std::span<const std::int32_t> tokens, const std::string& path);
  /// Puts what save_session wrote into the prefix cache: requests that begin with those tokens go on from
  /// there, bit for bit as if they had computed it. Returns how many tokens that is. Throws ModelFileError
  /// where the file is broken or of another model, cache type or backend, std::runtime_error where it does
  /// not fit; then nothing has changed but the room that unused prefixes gave up.
  std::int64_t load_session(const std::string& path);
  EngineStats stats() const;
  /// The tenant's requests of which no step has computed anything yet.
  std::int64_t num_waiting(const std::string& tenant) const;
  const LoadedModel& model() const { return *model_; }
  std::int64_t max_context() const;

 private:
  std::shared_ptr<LoadedModel> model_;
  EngineOptions options_;
  std::unique_ptr<EngineCore> core_;
};

}  // namespace redline
