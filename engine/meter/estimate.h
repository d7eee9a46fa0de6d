// What a model costs on paper: closed forms from its configuration, derived apart from the ledger (tests hold
// the two against each other), and the roofline's verdicts. docs/accounting.md derives each formula.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/dtype.h"
#include "kernels/ledger.h"

namespace redline {

struct ModelWeights;  // engine/weights.h

/// Elements of a model's matrices by the type that stores them.
using ElementsByDType = std::array<std::int64_t, kNumDTypes>;

/// How a model's weights are stored.
struct StoredWeights {
  ElementsByDType projections{}, ffn{};  // all layers
  std::int64_t vector_elements = 0;      // norms and biases, held in f32
  std::int64_t table_elements = 0;       // V H: the embedding, and the head again where it is not tied
  DType embedding = DType::kF32;
  DType head = DType::kF32;
  bool tied = false;

  /// Tied tensors count once. Every parameter of a dense model is active.
  std::int64_t parameters() const;
  std::int64_t active_parameters() const { return parameters(); }
  /// At the types' own sizes.
  std::int64_t bytes() const;
};

/// All matrices of `config` in one type.
StoredWeights stored_weights(const ModelConfig& config, DType dtype);
/// As `checkpoint` stores them; with `dtype`, as if re-quantised to it at load.
StoredWeights stored_weights(const Checkpoint& checkpoint, std::optional<DType> dtype = std::nullopt);

/// As `weights`, packed, came from.
StoredWeights stored_weights(const ModelConfig& config, const ModelWeights& weights);

/// One sequence's part of a step: `num_new` tokens after `num_cached`, logits for `num_logit_rows` of them.
struct SequenceShape {
  std::int64_t num_cached = 0;
  std::int64_t num_new = 1;
  std::int64_t num_logit_rows = 1;
};

/// Token i of a sequence attends to i tokens, itself among them: 1 + 2 + ... + num_tokens; a window spares
/// the first of them all those beyond it, 1 + 2 + ... + (num_tokens - window). A window of 0 is none.
std::int64_t attended_by_first(std::int64_t num_tokens, std::int64_t window);

/// What some steps' work depends on, added up over them.
struct StepTotals {
  std::int64_t steps = 0, head_steps = 0;  // the latter: with logits
  std::int64_t rows = 0;                   // tokens computed
  std::int64_t rows_without_logits = 0;    // of them, in steps without logits
  std::int64_t logit_rows = 0;
  // Of each row, the tokens it attends to, itself among them; of each sequence and step, the tokens before
  // it: at most the layer's window of them, summed over layers.
  std::int64_t pairs = 0, cached = 0;
};

/// FLOPs and compulsory bytes, exact.
struct Work {
  std::int64_t projections = 0, attention = 0, ffn = 0, head = 0;
  std::array<std::int64_t, kNumComputeTypes> flops_by_type{};  // the same FLOPs by the arithmetic they run in
  std::int64_t weights = 0, kv_read = 0, kv_write = 0;

  std::int64_t flops() const { return projections + attention + ffn + head; }
  std::int64_t bytes() const { return weights + kv_read + kv_write; }
  double intensity() const { return static_cast<double>(flops()) / static_cast<double>(bytes()); }
  Work& operator+=(const Work& other);
};

/// What a step's time is at the peaks when compute and memory overlap fully.
struct Verdict {
  double compute_s = 0;
  double memory_s = 0;
  double time_s() const { return compute_s > memory_s ? compute_s : memory_s; }
  const char* bound_by() const { return compute_s > memory_s ? "compute" : "memory"; }
};

/// Nothing where a peak that the work needs is unknown.
std::optional<Verdict> verdict(const Work& work, const Peaks& peaks);

/// A model on a backend: which arithmetic each storage type runs in.
class Estimate {
 public:
  /// The arithmetic of products with weights, and of attention over a cache, stored in a type: as
  /// Ops::compute_type says, or bf16_compute.
  using ComputeOf = std::function<ComputeType(OpKind, DType)>;

  Estimate(const ModelConfig& config, const StoredWeights& weights, DType kv_dtype, ComputeOf compute_of);

  /// Everything computes in bf16 on the tensor cores, whatever stores it.
  static ComputeType bf16_compute(OpKind, DType) { return ComputeType::kBF16; }

  const StoredWeights& weights() const { return weights_; }
  ComputeType attention_type() const { return compute_of_(OpKind::kPagedAttention, kv_dtype_); }
  /// K and V of one token in all layers.
  std::int64_t kv_bytes_per_token() const;

  Work step(std::span<const SequenceShape> sequences) const;
  /// Of steps together.
  Work steps(const StepTotals& totals) const;
  /// How many layers have this window; 0 is none.
  const std::map<std::int64_t, std::int64_t>& layers_by_window() const { return layers_by_window_; }
  const ModelConfig& config() const { return config_; }
  /// `num_tokens` after `num_cached`, in chunks of at most `chunk_tokens` (0: in one step), logits of the
  /// last.
  Work prefill(std::int64_t num_tokens, std::int64_t num_cached = 0, std::int64_t chunk_tokens = 0) const;
  /// One token each for `batch` sequences with `depth` cached tokens.
  Work decode(std::int64_t batch, std::int64_t depth) const;

  /// The least prompt whose prefill, and the least batch whose decode at `depth`, is bound by compute;
  /// nothing where none up to `limit` is, or a peak is unknown.
  std::optional<std::int64_t> prefill_crossover(const Peaks& peaks, std::int64_t limit = 1 << 20) const;
  std::optional<std::int64_t> decode_crossover(const Peaks& peaks, std::int64_t depth,
                                               std::int64_t limit = 1 << 20) const;
  /// Sequences of `length` tokens whose caches fit beside the weights; tokens outside every layer's window
  /// need no cache.
  std::int64_t sequences_that_fit(std::int64_t memory_bytes, std::int64_t length) const;

 private:
  ModelConfig config_;
  StoredWeights weights_;
  DType kv_dtype_;
  ComputeOf compute_of_;
  std::map<std::int64_t, std::int64_t> layers_by_window_;
};

}  // namespace redline
