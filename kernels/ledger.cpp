#include "kernels/ledger.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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

// Of a sequence's logit rows, those of tokens that were not computed before: they are its last rows.
std::int64_t fresh_logit_rows(const SequenceWork& s) {
  return std::min(s.num_logit_rows, s.num_new - s.num_recomputed);
}

template <class Array>
void add(Array& to, const Array& from, std::int64_t sign) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += sign * from[i];
}

void add(Counts& to, const Counts& from, std::int64_t sign) {
  add(to.flops, from.flops, sign);
  add(to.wasted_flops, from.wasted_flops, sign);
  add(to.flops_by_type, from.flops_by_type, sign);
  add(to.wasted_flops_by_type, from.wasted_flops_by_type, sign);
  to.tokens += sign * from.tokens;
  to.wasted_tokens += sign * from.wasted_tokens;
  to.weights += sign * from.weights;
  to.kv_read += sign * from.kv_read;
  to.kv_write += sign * from.kv_write;
  to.kv_read_logical += sign * from.kv_read_logical;
  to.activations += sign * from.activations;
  to.wasted_bytes += sign * from.wasted_bytes;
  to.declared += sign * from.declared;
}

constexpr double KindTimes::*kTimesOfKind[] = {
    &KindTimes::busy_ns, &KindTimes::compute_ns_attainable, &KindTimes::compute_ns_vendor,
    &KindTimes::roofline_ns_attainable, &KindTimes::roofline_ns_vendor};

}  // namespace

KindTimes& KindTimes::operator+=(const KindTimes& other) {
  for (const auto time : kTimesOfKind) this->*time += other.*time;
  return *this;
}

KindTimes& KindTimes::operator-=(const KindTimes& other) {
  for (const auto time : kTimesOfKind) this->*time -= other.*time;
  return *this;
}

Counts& Counts::operator+=(const Counts& other) {
  add(*this, other, 1);
  return *this;
}

Counts& Counts::operator-=(const Counts& other) {
  add(*this, other, -1);
  return *this;
}

std::array<std::int64_t, kNumComputeTypes> Counts::executed_flops_by_type() const {
  std::array<std::int64_t, kNumComputeTypes> executed = flops_by_type;
  add(executed, wasted_flops_by_type, 1);
  return executed;
}

Counts Counts::as_wasted() const {
  Counts c;
  c.wasted_tokens = tokens + wasted_tokens;
  c.wasted_flops = wasted_flops;
  add(c.wasted_flops, flops, 1);
  c.wasted_flops_by_type = wasted_flops_by_type;
  add(c.wasted_flops_by_type, flops_by_type, 1);
  c.wasted_bytes = wasted_bytes + min_bytes();
  c.activations = activations;
  c.declared = declared;
  return c;
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
  batch_ = batch;
  sequences_.assign(batch.sequences.begin(), batch.sequences.end());
  whole_ = {};
  by_phase_ = {};
  for (const SequenceWork& s : sequences_) {
    for (Geometry* g : {&whole_, &by_phase_[index(s.phase)]}) {
      g->tokens += s.num_new;
      g->logits += s.num_logit_rows;
    }
  }
  flops_per_token_ = flops_per_logit_ = {};
  windows_.clear();
  for (int i = 0; i < 2; ++i) weight_bytes_[i] = weight_bytes_stored_[i] = 0;
  gathered_per_token_ = kv_write_per_token_ = 0;
  gathered_table_is_read_whole_ = false;
  activations_per_token_ = activations_per_logit_ = copied_bytes_ = 0;
  busy_ns_ = 0;
  last_op_done_ = {};
  whole_kinds_ = {};
  share_ = {};
  step_.kinds = {};
  step_.kind_ns = {};
  step_.kind_calls = {};
}

Ledger::Window& Ledger::window_of(const OpCost& cost) {
  for (Window& window : windows_)
    if (window.size == cost.window) return window;
  Window& window = windows_.emplace_back();
  window.size = cost.window;
  window.cached_unique = unique_in_window(batch_, cost.window, cost.kv_block_size);
  for (const SequenceWork& s : sequences_)
    for (Reach* reach : {&window.whole, &window.by_phase[index(s.phase)]}) {
      reach->pairs += causal_pairs(s.num_cached, s.num_new, cost.window);
      reach->cached_tokens += cached_in_window(s.num_cached, cost.window);
    }
  return window;
}

// Times that the operation's share of `work` takes at the peaks; bytes that no row owns are shared by row.
Ledger::OpTime Ledger::time_at(const Peaks& peaks, const OpCost& cost, const Geometry& work,
                               const Reach& reach) const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  const std::int64_t rows = work.rows(cost.basis), all_rows = whole_.rows(cost.basis);
  const std::int64_t flops = cost.flops_per_row * rows + cost.flops_per_pair * reach.pairs;
  const std::int64_t owned_bytes = (cost.activation_bytes_per_row + cost.gathered_bytes_per_row) * rows +
                                   cost.kv_read_bytes_per_token * (reach.cached_tokens + work.tokens) +
                                   cost.kv_write_bytes_per_token * work.tokens;
  double bytes = static_cast<double>(owned_bytes);
  if (all_rows > 0)
    bytes += static_cast<double>(cost.weight_bytes_stored + cost.copied_bytes) * static_cast<double>(rows) /
             static_cast<double>(all_rows);
  const double memory_ns = peaks.bandwidth > 0 ? bytes * (1e9 / peaks.bandwidth) : kUnknown;
  if (flops == 0) return {0, memory_ns};
  const double peak = peaks.flops[index(cost.compute)];
  const double compute_ns = peak > 0 ? 1e9 * static_cast<double>(flops) / peak : kUnknown;
  const bool known = peak > 0 && peaks.bandwidth > 0;
  return {cost.part == Part::kOther ? 0 : compute_ns, known ? std::max(memory_ns, compute_ns) : kUnknown};
}

// What a kind takes at the peaks: FLOPs exact by phase, rooflines of the whole step, to be split at its end.
void Ledger::charge_time(const OpCost& cost, const Window* window) {
  const int kind = index(cost.kind);
  const Reach whole = window ? window->whole : Reach{};
  const OpTime whole_attainable = time_at(attainable_, cost, whole_, whole);
  const OpTime whole_vendor = time_at(vendor_, cost, whole_, whole);
  whole_kinds_[kind].roofline_ns_attainable += whole_attainable.roofline_ns;
  whole_kinds_[kind].roofline_ns_vendor += whole_vendor.roofline_ns;
  const bool mixed = is_mixed();
  for (int p = 0; p < kNumPhases; ++p) {
    if (by_phase_[p].tokens == 0) continue;
    const Reach reach = mixed && window ? window->by_phase[p] : Reach{};
    const OpTime attainable = mixed ? time_at(attainable_, cost, by_phase_[p], reach) : whole_attainable;
    const OpTime vendor = mixed ? time_at(vendor_, cost, by_phase_[p], reach) : whole_vendor;
    step_.kinds[p][kind].compute_ns_attainable += attainable.compute_ns;
    step_.kinds[p][kind].compute_ns_vendor += vendor.compute_ns;
    share_[p][kind] += (attainable_.bandwidth > 0 ? attainable : vendor).roofline_ns;
  }
}

void Ledger::charge(const OpCost& cost, std::int64_t rows) {
  if (!enabled_) return;
  const bool logits = cost.basis == RowBasis::kLogits;
  REDLINE_CHECK(rows == whole_.rows(cost.basis),
                "an operation's rows are the step's tokens or its logit rows");
  const int part = index(cost.part), type = index(cost.compute), basis = index(cost.basis);
  (logits ? flops_per_logit_ : flops_per_token_)[part][type] += cost.flops_per_row;
  weight_bytes_[basis] += cost.weight_bytes;
  weight_bytes_stored_[basis] += cost.weight_bytes_stored;
  gathered_per_token_ += cost.gathered_bytes_per_row;
  if (cost.holds_gathered_rows && rows > 0) gathered_table_is_read_whole_ = true;
  kv_write_per_token_ += cost.kv_write_bytes_per_token;
  (logits ? activations_per_logit_ : activations_per_token_) += cost.activation_bytes_per_row;
  copied_bytes_ += cost.copied_bytes;

  const bool attends = cost.flops_per_pair > 0 || cost.kv_read_bytes_per_token > 0;
  Window* window = attends ? &window_of(cost) : nullptr;
  if (window) {
    window->flops_per_pair[part][type] += cost.flops_per_pair;
    window->kv_read_per_token += cost.kv_read_bytes_per_token;
  }
  charge_time(cost, window);
  step_.kind_calls[index(cost.kind)] += 1;
}

void Ledger::op_done(OpKind kind) {
  if (!enabled_) return;
  const Clock::time_point start = std::exchange(last_op_done_, Clock::now());
  const std::int64_t ns = std::chrono::duration_cast<std::chrono::nanoseconds>(last_op_done_ - start).count();
  step_.kind_ns[index(kind)] += ns;
  busy_ns_ += ns;
}

const StepCounts& Ledger::end_step() {
  if (!enabled_) return step_;
  // Weights that any useful row needed would have been read without the wasted rows beside it: useful rows
  // share them, and only a step without one wastes them.
  std::int64_t fresh_tokens = 0, fresh_logits = 0;
  for (const SequenceWork& s : sequences_) {
    fresh_tokens += s.num_new - s.num_recomputed;
    fresh_logits += fresh_logit_rows(s);
  }
  const std::int64_t gathered = gathered_table_is_read_whole_ ? 0 : gathered_per_token_;
  const int kTokens = index(RowBasis::kTokens), kLogits = index(RowBasis::kLogits);
  Dealer weights(weight_bytes_[kTokens], fresh_tokens > 0 ? fresh_tokens : whole_.tokens);
  Dealer head(weight_bytes_[kLogits], fresh_logits > 0 ? fresh_logits : whole_.logits);
  Dealer moved(weight_bytes_stored_[kTokens] + copied_bytes_, whole_.tokens);
  Dealer head_moved(weight_bytes_stored_[kLogits], whole_.logits);

  step_.phase = {};
  step_.sequences.assign(sequences_.size(), Counts{});
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const SequenceWork& s = sequences_[i];
    Counts& c = step_.sequences[i];
    const std::int64_t fresh = s.num_new - s.num_recomputed;
    c.tokens = fresh;
    c.wasted_tokens = s.num_recomputed;
    count_flops(s, c);
    (fresh_tokens > 0 ? c.weights : c.wasted_bytes) += weights.deal(fresh_tokens > 0 ? fresh : s.num_new);
    (fresh_logits > 0 ? c.weights : c.wasted_bytes) +=
        head.deal(fresh_logits > 0 ? fresh_logit_rows(s) : s.num_logit_rows);
    c.weights += gathered * fresh;
    c.kv_write = kv_write_per_token_ * fresh;
    c.wasted_bytes += (gathered + kv_write_per_token_) * s.num_recomputed;
    for (const Window& window : windows_) {
      const std::int64_t cached = cached_in_window(s.num_cached, window.size);
      (fresh > 0 ? c.kv_read : c.wasted_bytes) += window.kv_read_per_token * window.cached_unique[i];
      if (fresh > 0) c.kv_read_logical += window.kv_read_per_token * cached;
      c.declared += window.kv_read_per_token * (cached + s.num_new);
    }
    c.activations = activations_per_token_ * s.num_new + activations_per_logit_ * s.num_logit_rows;
    c.declared += moved.deal(s.num_new) + head_moved.deal(s.num_logit_rows) +
                  gathered_per_token_ * s.num_new + kv_write_per_token_ * s.num_new + c.activations;
    step_.phase[index(s.phase)] += c;
  }
  split_times();
  return step_;
}

void Ledger::count_flops(const SequenceWork& s, Counts& c) const {
  const std::int64_t fresh = s.num_new - s.num_recomputed, fresh_logits = fresh_logit_rows(s);
  const std::int64_t wasted_logits = s.num_logit_rows - fresh_logits;
  const auto count = [&](const PartByType& flops, std::int64_t useful, std::int64_t wasted) {
    for (int p = 0; p < kNumParts; ++p)
      for (int t = 0; t < kNumComputeTypes; ++t) {
        c.flops[p] += flops[p][t] * useful;
        c.wasted_flops[p] += flops[p][t] * wasted;
        if (p == index(Part::kOther)) continue;
        c.flops_by_type[t] += flops[p][t] * useful;
        c.wasted_flops_by_type[t] += flops[p][t] * wasted;
      }
  };
  count(flops_per_token_, fresh, s.num_recomputed);
  count(flops_per_logit_, fresh_logits, wasted_logits);
  for (const Window& window : windows_) {
    const std::int64_t wasted = causal_pairs(s.num_cached, s.num_recomputed, window.size);
    count(window.flops_per_pair, causal_pairs(s.num_cached, s.num_new, window.size) - wasted, wasted);
  }
}

void Ledger::split_times() {
  const bool timed = std::any_of(step_.kind_ns.begin(), step_.kind_ns.end(), [](auto ns) { return ns > 0; });
  std::array<double, kNumPhases> ideal_attainable{}, ideal_vendor{}, rows{};
  for (int p = 0; p < kNumPhases; ++p) rows[p] = static_cast<double>(by_phase_[p].tokens);
  const auto fraction = [&rows](const std::array<double, kNumPhases>& share, int p) {
    const double sum = share[0] + share[1];
    return sum > 0 ? share[p] / sum : rows[p] / (rows[0] + rows[1]);  // no peak is known, or nothing was done
  };
  std::array<double, kNumPhases> whole_share{};
  step_.busy_ns = {};
  for (int k = 0; k < kNumOpKinds; ++k) {
    if (step_.kind_calls[k] == 0) continue;
    for (int p = 0; p < kNumPhases; ++p) {
      if (by_phase_[p].tokens == 0) continue;
      const double of_kind = fraction({share_[0][k], share_[1][k]}, p);
      KindTimes& kind = step_.kinds[p][k];
      kind.busy_ns = static_cast<double>(step_.kind_ns[k]) * of_kind;
      kind.roofline_ns_attainable = whole_kinds_[k].roofline_ns_attainable * of_kind;
      kind.roofline_ns_vendor = whole_kinds_[k].roofline_ns_vendor * of_kind;
      step_.busy_ns[p] += kind.busy_ns;
      ideal_attainable[p] += kind.roofline_ns_attainable;
      ideal_vendor[p] += kind.roofline_ns_vendor;
      whole_share[p] += share_[p][k];
    }
  }
  const auto known = [](double ns) { return std::isnan(ns) ? 0.0 : ns; };
  for (int p = 0; p < kNumPhases; ++p) {
    if (!timed && by_phase_[p].tokens > 0)
      step_.busy_ns[p] = static_cast<double>(busy_ns_) * fraction(whole_share, p);
    step_.ideal_ns_attainable[p] = known(ideal_attainable[p]);
    step_.ideal_ns_vendor[p] = known(ideal_vendor[p]);
  }
}

}  // namespace redline
