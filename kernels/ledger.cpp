#include "kernels/ledger.h"

#include <algorithm>

#include "kernels/check.h"

namespace redline {
namespace {

constexpr int index(Part part) { return static_cast<int>(part); }
constexpr int index(ComputeType type) { return static_cast<int>(type); }
constexpr int index(Phase phase) { return static_cast<int>(phase); }
constexpr int index(OpKind kind) { return static_cast<int>(kind); }
constexpr int index(RowBasis basis) { return static_cast<int>(basis); }

// Deals `total` out over consecutive sequences in proportion to their rows, so that the shares sum to it
// exactly.
class Dealer {
 public:
  Dealer(std::int64_t total, std::int64_t rows) : total_(total), rows_(rows) {}
  std::int64_t deal(std::int64_t rows) {
    if (rows_ == 0) return 0;
    const std::int64_t before = part(dealt_);
    dealt_ += rows;
    return part(dealt_) - before;
  }

 private:
  std::int64_t part(std::int64_t rows) const {
    return static_cast<std::int64_t>(static_cast<__int128>(total_) * rows / rows_);
  }
  std::int64_t total_, rows_, dealt_ = 0;
};

}  // namespace

Counts& Counts::operator+=(const Counts& o) {
  tokens += o.tokens;
  wasted_tokens += o.wasted_tokens;
  for (int i = 0; i < kNumParts; ++i) flops[i] += o.flops[i];
  wasted_flops += o.wasted_flops;
  for (int i = 0; i < kNumComputeTypes; ++i) flops_by_type[i] += o.flops_by_type[i];
  weights += o.weights;
  kv_read += o.kv_read;
  kv_write += o.kv_write;
  kv_read_logical += o.kv_read_logical;
  activations += o.activations;
  wasted_bytes += o.wasted_bytes;
  declared += o.declared;
  return *this;
}

void Ledger::set_peaks(const Peaks& attainable, const Peaks& vendor) {
  attainable_ = attainable;
  vendor_ = vendor;
}

void Ledger::begin_step(const BatchView& batch) {
  if (!enabled_) {
    step_ = StepCounts{};
    step_.sequences.resize(batch.sequences.size());
    return;
  }
  sequences_.assign(batch.sequences.begin(), batch.sequences.end());
  geometry_ = {};
  num_tokens_ = num_logit_rows_ = 0;
  for (const SequenceWork& s : sequences_) {
    PhaseGeometry& g = geometry_[index(s.phase)];
    g.tokens += s.num_new;
    g.logits += s.num_logit_rows;
    g.pairs += causal_pairs(s.num_cached, s.num_new);
    g.cached_tokens += s.num_cached;
    num_tokens_ += s.num_new;
    num_logit_rows_ += s.num_logit_rows;
  }
  flops_per_token_ = flops_per_logit_ = flops_per_pair_ = {};
  for (int i = 0; i < 2; ++i) weight_bytes_[i] = weight_bytes_stored_[i] = 0;
  gathered_per_token_ = kv_read_per_token_ = kv_write_per_token_ = 0;
  activations_per_token_ = activations_per_logit_ = 0;
  busy_ns_ = 0;
  ideal_attainable_ns_ = ideal_vendor_ns_ = 0;
  share_ = {};
  step_.kind_ns = {};
  step_.kind_calls = {};
}

// Time that `work` (of one phase, or of all) takes at the peaks; weights are shared by row. 0 if a peak is
// unknown.
double Ledger::roofline_ns(const OpCost& cost, const Peaks& peaks, const PhaseGeometry& work,
                           std::int64_t rows, std::int64_t all_rows) const {
  const double peak = peaks.flops[index(cost.compute)];
  if (peak <= 0 || peaks.bandwidth <= 0) return 0;
  const double r = static_cast<double>(rows);
  const double flops = static_cast<double>(cost.flops_per_row) * r +
                       static_cast<double>(cost.flops_per_pair) * static_cast<double>(work.pairs);
  double bytes = static_cast<double>(cost.activation_bytes_per_row + cost.gathered_bytes_per_row) * r;
  bytes += static_cast<double>(cost.kv_read_bytes_per_token) *
           static_cast<double>(work.cached_tokens + work.tokens);
  bytes += static_cast<double>(cost.kv_write_bytes_per_token) * static_cast<double>(work.tokens);
  if (all_rows > 0)
    bytes += static_cast<double>(cost.weight_bytes_stored) * r / static_cast<double>(all_rows);
  return 1e9 * std::max(flops / peak, bytes / peaks.bandwidth);
}

void Ledger::charge(const OpCost& cost, std::int64_t rows) {
  if (!enabled_) return;
  const bool logits = cost.basis == RowBasis::kLogits;
  const std::int64_t all_rows = logits ? num_logit_rows_ : num_tokens_;
  REDLINE_CHECK(rows == all_rows, "an operation's rows are the step's tokens or its logit rows");
  const int part = index(cost.part), type = index(cost.compute), basis = index(cost.basis);
  (logits ? flops_per_logit_ : flops_per_token_)[part][type] += cost.flops_per_row;
  flops_per_pair_[part][type] += cost.flops_per_pair;
  weight_bytes_[basis] += cost.weight_bytes;
  weight_bytes_stored_[basis] += cost.weight_bytes_stored;
  gathered_per_token_ += cost.gathered_bytes_per_row;
  if (cost.holds_gathered_rows && rows > 0) gathered_per_token_ = 0;
  kv_read_per_token_ += cost.kv_read_bytes_per_token;
  kv_write_per_token_ += cost.kv_write_bytes_per_token;
  (logits ? activations_per_logit_ : activations_per_token_) += cost.activation_bytes_per_row;

  PhaseGeometry whole;
  for (const PhaseGeometry& g : geometry_) {
    whole.tokens += g.tokens;
    whole.pairs += g.pairs;
    whole.cached_tokens += g.cached_tokens;
  }
  ideal_attainable_ns_ += roofline_ns(cost, attainable_, whole, rows, all_rows);
  ideal_vendor_ns_ += roofline_ns(cost, vendor_, whole, rows, all_rows);
  const Peaks& best = attainable_.bandwidth > 0 ? attainable_ : vendor_;
  for (int p = 0; p < kNumPhases; ++p)
    share_[p] +=
        roofline_ns(cost, best, geometry_[p], logits ? geometry_[p].logits : geometry_[p].tokens, all_rows);
  step_.kind_calls[index(cost.kind)] += 1;
}

void Ledger::op_done(OpKind kind, Clock::time_point start) {
  if (!enabled_) return;
  const std::int64_t ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  step_.kind_ns[index(kind)] += ns;
  busy_ns_ += ns;
}

const StepCounts& Ledger::end_step() {
  if (!enabled_) return step_;
  std::int64_t useful_tokens = 0;
  for (const SequenceWork& s : sequences_) useful_tokens += s.num_new - s.num_recomputed;
  // Weights that any useful token needed would have been read without the recomputation beside it.
  const bool useful = useful_tokens > 0;
  const int kTokens = index(RowBasis::kTokens), kLogits = index(RowBasis::kLogits);
  Dealer weights(weight_bytes_[kTokens], useful ? useful_tokens : num_tokens_);
  Dealer head(weight_bytes_[kLogits], num_logit_rows_);
  Dealer stored(weight_bytes_stored_[kTokens], num_tokens_);
  Dealer head_stored(num_logit_rows_ > 0 ? weight_bytes_stored_[kLogits] : 0, num_logit_rows_);

  step_.phase = {};
  step_.sequences.assign(sequences_.size(), Counts{});
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const SequenceWork& s = sequences_[i];
    Counts& c = step_.sequences[i];
    const std::int64_t fresh = s.num_new - s.num_recomputed;
    const std::int64_t wasted_pairs = causal_pairs(s.num_cached, s.num_recomputed);
    const std::int64_t pairs = causal_pairs(s.num_cached, s.num_new) - wasted_pairs;
    c.tokens = fresh;
    c.wasted_tokens = s.num_recomputed;
    for (int p = 0; p < kNumParts; ++p)
      for (int t = 0; t < kNumComputeTypes; ++t) {
        const std::int64_t flops = flops_per_token_[p][t] * fresh +
                                   flops_per_logit_[p][t] * s.num_logit_rows + flops_per_pair_[p][t] * pairs;
        c.flops[p] += flops;
        if (p == index(Part::kOther)) continue;
        c.flops_by_type[t] += flops;
        c.wasted_flops += flops_per_token_[p][t] * s.num_recomputed + flops_per_pair_[p][t] * wasted_pairs;
      }
    const std::int64_t kv_read = kv_read_per_token_ * s.num_cached_unique;
    const std::int64_t weight_share = weights.deal(useful ? fresh : s.num_new);
    (useful ? c.weights : c.wasted_bytes) += weight_share;
    c.weights += head.deal(s.num_logit_rows) + gathered_per_token_ * fresh;
    c.wasted_bytes += (gathered_per_token_ + kv_write_per_token_) * s.num_recomputed;
    (fresh > 0 ? c.kv_read : c.wasted_bytes) += kv_read;
    c.kv_write = kv_write_per_token_ * fresh;
    c.kv_read_logical = kv_read_per_token_ * s.num_cached;
    c.activations = activations_per_token_ * s.num_new + activations_per_logit_ * s.num_logit_rows;
    c.declared = stored.deal(s.num_new) + head_stored.deal(s.num_logit_rows) +
                 gathered_per_token_ * s.num_new + kv_read_per_token_ * (s.num_cached + s.num_new) +
                 kv_write_per_token_ * s.num_new + c.activations;
    step_.phase[index(s.phase)] += c;
  }

  double share[kNumPhases] = {share_[0], share_[1]};
  if (share[0] + share[1] <= 0)
    for (int p = 0; p < kNumPhases; ++p) share[p] = static_cast<double>(geometry_[p].tokens);
  const double sum = share[0] + share[1];
  for (int p = 0; p < kNumPhases; ++p) {
    const double fraction = sum > 0 ? share[p] / sum : 0;
    step_.busy_ns[p] = static_cast<double>(busy_ns_) * fraction;
    step_.ideal_ns_attainable[p] = ideal_attainable_ns_ * fraction;
    step_.ideal_ns_vendor[p] = ideal_vendor_ns_ * fraction;
  }
  return step_;
}

}  // namespace redline
