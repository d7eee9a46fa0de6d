#include "engine/meter/estimate.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/meter/device_peaks.h"
#include "engine/weights.h"

namespace redline {
namespace {

constexpr std::int64_t kVectorBytes = 4;

std::int64_t sum(const ElementsByDType& elements) {
  std::int64_t total = 0;
  for (const std::int64_t n : elements) total += n;
  return total;
}

std::int64_t bytes_of(DType dtype, std::int64_t elements) { return row_bytes(dtype, elements); }

std::int64_t bytes_of(const ElementsByDType& elements) {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < elements.size(); ++i) total += bytes_of(static_cast<DType>(i), elements[i]);
  return total;
}

// The least n in [1, limit] where `holds`, which once true stays true.
template <class Holds>
std::optional<std::int64_t> least(std::int64_t limit, Holds&& holds) {
  if (!holds(limit)) return std::nullopt;
  std::int64_t low = 0, high = limit;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return high;
}

bool compute_bound(const Work& work, const Peaks& peaks) {
  const auto v = verdict(work, peaks);
  return v && v->compute_s > v->memory_s;
}

}  // namespace

std::int64_t attended_by_first(std::int64_t num_tokens, std::int64_t window) {
  const std::int64_t spared = window > 0 ? std::max<std::int64_t>(num_tokens - window, 0) : 0;
  return (num_tokens * (num_tokens + 1) - spared * (spared + 1)) / 2;
}

std::int64_t StoredWeights::parameters() const {
  return sum(projections) + sum(ffn) + vector_elements + (tied ? 1 : 2) * table_elements;
}

std::int64_t StoredWeights::bytes() const {
  return bytes_of(projections) + bytes_of(ffn) + kVectorBytes * vector_elements +
         bytes_of(embedding, table_elements) + (tied ? 0 : bytes_of(head, table_elements));
}

StoredWeights stored_weights(const ModelConfig& c, DType dtype) {
  StoredWeights w;
  const auto type = static_cast<std::size_t>(dtype);
  w.projections[type] = c.num_layers * (c.hidden_size * c.qkv_size() + c.q_size() * c.hidden_size);
  w.ffn[type] = c.num_layers * 3 * c.hidden_size * c.ffn_size;
  w.vector_elements = (2 * c.num_layers + 1) * c.hidden_size;
  if (c.qkv_bias) w.vector_elements += c.num_layers * c.qkv_size();
  if (c.qk_norm == QkNorm::kEachHead) w.vector_elements += c.num_layers * 2 * c.head_dim;
  if (c.qk_norm == QkNorm::kJoinedHeads) w.vector_elements += c.num_layers * (c.q_size() + c.kv_size());
  w.table_elements = c.vocab_size * c.hidden_size;
  w.embedding = w.head = dtype;
  w.tied = c.tied_embeddings;
  return w;
}

StoredWeights stored_weights(const Checkpoint& checkpoint, std::optional<DType> dtype) {
  const ModelConfig& c = checkpoint.config();
  const auto stored = [&](TensorRole role, std::int64_t layer = 0) {
    const FileTensor& tensor = checkpoint.tensor(role, layer);
    return dtype ? type_for_rows(*dtype, tensor.shape.back()) : tensor.dtype;
  };
  StoredWeights w = stored_weights(c, DType::kF32);  // for what no type changes
  w.projections = w.ffn = {};
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const auto add = [&](ElementsByDType& elements, TensorRole role, std::int64_t rows, std::int64_t cols) {
      elements[static_cast<std::size_t>(stored(role, layer))] += rows * cols;
    };
    add(w.projections, TensorRole::kQ, c.q_size(), c.hidden_size);
    add(w.projections, TensorRole::kK, c.kv_size(), c.hidden_size);
    add(w.projections, TensorRole::kV, c.kv_size(), c.hidden_size);
    add(w.projections, TensorRole::kO, c.hidden_size, c.q_size());
    add(w.ffn, TensorRole::kGate, c.ffn_size, c.hidden_size);
    add(w.ffn, TensorRole::kUp, c.ffn_size, c.hidden_size);
    add(w.ffn, TensorRole::kDown, c.hidden_size, c.ffn_size);
  }
  w.embedding = stored(TensorRole::kEmbedding);
  w.head = w.tied ? w.embedding : stored(TensorRole::kHead);
  return w;
}

StoredWeights stored_weights(const ModelConfig& config, const ModelWeights& weights) {
  StoredWeights w = stored_weights(config, DType::kF32);  // for what no type changes
  w.projections = w.ffn = {};
  const auto add = [](ElementsByDType& elements, const PackedMatrix& matrix) {
    elements[static_cast<std::size_t>(matrix.view.dtype)] += matrix.view.rows * matrix.view.cols;
  };
  for (const LayerWeights& layer : weights.layers) {
    for (const PackedMatrix& matrix : layer.qkv) add(w.projections, matrix);
    add(w.projections, layer.o);
    for (const auto* matrix : {&layer.gate_up, &layer.gate, &layer.up})
      if (*matrix) add(w.ffn, **matrix);
    add(w.ffn, layer.down);
  }
  w.embedding = weights.embedding.view.dtype;
  w.head = weights.head_view().dtype;
  w.tied = !weights.head;
  return w;
}

Work& Work::operator+=(const Work& other) {
  projections += other.projections;
  attention += other.attention;
  ffn += other.ffn;
  head += other.head;
  for (std::size_t i = 0; i < flops_by_type.size(); ++i) flops_by_type[i] += other.flops_by_type[i];
  weights += other.weights;
  kv_read += other.kv_read;
  kv_write += other.kv_write;
  return *this;
}

std::optional<Verdict> verdict(const Work& work, const Peaks& peaks) {
  if (peaks.bandwidth <= 0) return std::nullopt;
  const std::optional<double> compute_s = seconds_at(peaks, work.flops_by_type);
  if (!compute_s) return std::nullopt;
  return Verdict{.compute_s = *compute_s, .memory_s = static_cast<double>(work.bytes()) / peaks.bandwidth};
}

Estimate::Estimate(const ModelConfig& config, const StoredWeights& weights, DType kv_dtype,
                   ComputeOf compute_of)
    : config_(config), weights_(weights), kv_dtype_(kv_dtype), compute_of_(std::move(compute_of)) {
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    ++layers_by_window_[config.layer(layer).window];
}

std::int64_t Estimate::kv_bytes_per_token() const {
  return 2 * config_.num_layers * bytes_of(kv_dtype_, config_.kv_size());
}

Work Estimate::step(std::span<const SequenceShape> sequences) const {
  StepTotals totals{.steps = 1};
  for (const SequenceShape& s : sequences) {
    totals.rows += s.num_new;
    totals.logit_rows += s.num_logit_rows;
    for (const auto& [window, num_layers] : layers_by_window_) {
      totals.cached += num_layers * (window > 0 ? std::min(s.num_cached, window) : s.num_cached);
      totals.pairs += num_layers * (attended_by_first(s.num_cached + s.num_new, window) -
                                    attended_by_first(s.num_cached, window));
    }
  }
  totals.head_steps = totals.logit_rows > 0 ? 1 : 0;
  totals.rows_without_logits = totals.logit_rows > 0 ? 0 : totals.rows;
  return steps(totals);
}

Work Estimate::steps(const StepTotals& totals) const {
  const ModelConfig& c = config_;
  Work work;
  const auto count = [&](std::int64_t& part, std::int64_t flops, OpKind kind, DType dtype) {
    part += flops;
    work.flops_by_type[static_cast<std::size_t>(compute_of_(kind, dtype))] += flops;
  };
  for (std::size_t i = 0; i < kNumDTypes; ++i) {
    const DType dtype = static_cast<DType>(i);
    count(work.projections, 2 * totals.rows * weights_.projections[i], OpKind::kLinear, dtype);
    count(work.ffn, 2 * totals.rows * weights_.ffn[i], OpKind::kLinear, dtype);
  }
  count(work.attention, 4 * c.q_size() * totals.pairs, OpKind::kPagedAttention, kv_dtype_);
  count(work.head, 2 * c.hidden_size * c.vocab_size * totals.logit_rows, OpKind::kLinear, weights_.head);

  // A tied table that is read as the head is not gathered from as well.
  const std::int64_t gathered = weights_.tied ? totals.rows_without_logits : totals.rows;
  work.weights = totals.steps * (bytes_of(weights_.projections) + bytes_of(weights_.ffn) +
                                 kVectorBytes * weights_.vector_elements) +
                 totals.head_steps * bytes_of(weights_.head, weights_.table_elements) +
                 gathered * bytes_of(weights_.embedding, c.hidden_size);
  work.kv_read = totals.cached * (kv_bytes_per_token() / c.num_layers);
  work.kv_write = totals.rows * kv_bytes_per_token();
  return work;
}

Work Estimate::prefill(std::int64_t num_tokens, std::int64_t num_cached, std::int64_t chunk_tokens) const {
  if (chunk_tokens <= 0) chunk_tokens = num_tokens;
  Work work;
  for (std::int64_t done = 0; done < num_tokens; done += chunk_tokens) {
    const std::int64_t chunk = std::min(chunk_tokens, num_tokens - done);
    const SequenceShape shape{num_cached + done, chunk, done + chunk == num_tokens ? 1 : 0};
    work += step({&shape, 1});
  }
  return work;
}

Work Estimate::decode(std::int64_t batch, std::int64_t depth) const {
  return step(std::vector<SequenceShape>(static_cast<std::size_t>(batch), SequenceShape{depth, 1, 1}));
}

std::optional<std::int64_t> Estimate::prefill_crossover(const Peaks& peaks, std::int64_t limit) const {
  return least(limit, [&](std::int64_t n) { return compute_bound(prefill(n), peaks); });
}

std::optional<std::int64_t> Estimate::decode_crossover(const Peaks& peaks, std::int64_t depth,
                                                       std::int64_t limit) const {
  return least(limit, [&](std::int64_t n) { return compute_bound(decode(n, depth), peaks); });
}

std::int64_t Estimate::sequences_that_fit(std::int64_t memory_bytes, std::int64_t length) const {
  const std::int64_t left = memory_bytes - weights_.bytes();
  const std::int64_t window = config_.window(), held = window > 0 ? std::min(length, window) : length;
  return left <= 0 ? 0 : left / (held * kv_bytes_per_token());
}

}  // namespace redline
