#include "engine/meter/step_model.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace redline {
namespace {

constexpr double kSPerNs = 1e-9;

double busy_s(const PhaseTotals& totals, std::initializer_list<OpKind> kinds) {
  double ns = 0;
  for (const OpKind kind : kinds) ns += totals.kinds[static_cast<std::size_t>(kind)].busy_ns;
  return ns * kSPerNs;
}
double products_s(const PhaseTotals& totals) {
  return busy_s(totals, {OpKind::kLinear, OpKind::kLinearSiluMul});
}
double attention_s(const PhaseTotals& totals) { return busy_s(totals, {OpKind::kPagedAttention}); }
double other_s(const PhaseTotals& totals) {
  return std::max(0.0, totals.busy_ns * kSPerNs - products_s(totals) - attention_s(totals));
}

Efficiency efficiency(const Floor& floor, double measured_s) {
  Efficiency e;
  if (measured_s <= 0 || floor.compute_s + floor.memory_s <= 0) return e;
  e.least_compute = floor.compute_s / measured_s;
  e.least_memory = floor.memory_s / measured_s;
  if (floor.compute_s > floor.memory_s)
    e.compute = e.least_compute;
  else
    e.memory = e.least_memory;
  return e;
}

// What one phase did not show, the other may have.
void complete(Efficiency& e, const Efficiency& other) {
  if (!e.compute) e.compute = other.compute;
  if (!e.memory) e.memory = other.memory;
  e.least_compute = std::max(e.least_compute, other.least_compute);
  e.least_memory = std::max(e.least_memory, other.least_memory);
}

double bound_s(const Floor& floor, const Efficiency& e, bool& at_least) {
  const double compute_s = floor.compute_s / e.compute.value_or(1);
  const double memory_s = floor.memory_s / e.memory.value_or(1);
  const double bound_s = std::max(compute_s, memory_s);
  const auto may_bind = [bound_s](double floor_s, const std::optional<double>& measured, double least) {
    constexpr double kRounding = 1 + 1e-9;
    return !measured && floor_s > 0 && (least <= 0 || floor_s / least > bound_s * kRounding);
  };
  if (may_bind(floor.compute_s, e.compute, e.least_compute) ||
      may_bind(floor.memory_s, e.memory, e.least_memory))
    at_least = true;
  return bound_s;
}

double rows_of(const PhaseTotals& totals) {
  return static_cast<double>(totals.counts.tokens + totals.counts.wasted_tokens);
}

StepWork work_of(const StepShape& shape, const Estimate& estimate) {
  const std::vector<SequenceShape> sequences(static_cast<std::size_t>(shape.batch),
                                             SequenceShape{shape.depth, shape.num_new, 1});
  StepWork step;
  step.add(shape.phase, estimate.step(sequences), shape.rows());
  return step;
}

}  // namespace

StepModel::StepModel(const PhaseTotalsArray& totals, const Estimate& estimate, const Peaks& peaks)
    : peaks_(peaks) {
  timed_ = std::ranges::any_of(totals, [](const PhaseTotals& t) { return products_s(t) > 0; });
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    const PhaseTotals& t = totals[p];
    const Counts& c = t.counts;
    const auto at_peak = floors(c.flops_by_type, c.flops[static_cast<std::size_t>(Part::kAttention)],
                                c.weights, c.kv_read + c.kv_write, estimate.attention_type());
    if (t.steps <= 0 || t.busy_ns <= 0 || !at_peak) continue;
    phases_[p].ran = true;
    phases_[p].products = efficiency(at_peak->products, timed_ ? products_s(t) : t.busy_ns * kSPerNs);
    phases_[p].attention = efficiency(at_peak->attention, attention_s(t));
    phases_[p].gap_s = (t.wall_ns - t.busy_ns) * kSPerNs / static_cast<double>(t.steps);
  }
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    const PhaseModel& other = phases_[1 - p];
    complete(phases_[p].products, other.products);
    complete(phases_[p].attention, other.attention);
  }
  if (timed_) split_other(totals);
}

StepModel::StepModel(double compute_share, double memory_share, const Peaks& peaks) : peaks_(peaks) {
  for (PhaseModel& phase : phases_) {
    phase.ran = true;
    phase.products = {compute_share, memory_share, compute_share, memory_share};
  }
}

// Two phases with steps of different sizes tell what a step costs from what a row costs.
void StepModel::split_other(const PhaseTotalsArray& totals) {
  std::array<double, kNumPhases> each{}, rows{};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    if (!phases_[p].ran) continue;
    each[p] = other_s(totals[p]) / static_cast<double>(totals[p].steps);
    rows[p] = rows_of(totals[p]) / static_cast<double>(totals[p].steps);
    phases_[p].other_step_s = each[p];
  }
  if (!phases_[0].ran || !phases_[1].ran || rows[0] == rows[1]) return;
  const double a_row = (each[0] - each[1]) / (rows[0] - rows[1]);
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    phases_[p].other_row_s = std::clamp(a_row, 0.0, each[p] / rows[p]);
    phases_[p].other_step_s = each[p] - phases_[p].other_row_s * rows[p];
  }
}

std::optional<StepModel::Floors> StepModel::floors(const std::array<std::int64_t, kNumComputeTypes>& flops,
                                                   std::int64_t attention, std::int64_t weights,
                                                   std::int64_t kv, ComputeType attention_type) const {
  std::array<std::int64_t, kNumComputeTypes> products = flops, attends{};
  if (timed_) {
    products[static_cast<std::size_t>(attention_type)] -= attention;
    attends[static_cast<std::size_t>(attention_type)] = attention;
  }
  const auto products_s = seconds_at(peaks_, products), attends_s = seconds_at(peaks_, attends);
  if (!products_s || !attends_s || peaks_.bandwidth <= 0) return std::nullopt;
  const auto memory_s = [this](std::int64_t bytes) { return static_cast<double>(bytes) / peaks_.bandwidth; };
  return Floors{{*products_s, memory_s(timed_ ? weights : weights + kv)},
                {*attends_s, timed_ ? memory_s(kv) : 0}};
}

std::optional<PredictedStep> StepModel::time(const StepWork& step, ComputeType attention_type,
                                             const Efficiencies& products,
                                             const Efficiencies& attention) const {
  PredictedStep predicted;
  Floor all_products;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    if (step.num_rows[p] == 0) continue;
    const Work& work = step.work[p];
    const auto at_peak = floors(work.flops_by_type, work.attention, work.weights,
                                work.kv_read + work.kv_write, attention_type);
    if (!phases_[p].ran || !at_peak) return std::nullopt;
    all_products.compute_s += at_peak->products.compute_s;
    all_products.memory_s += at_peak->products.memory_s;
    predicted.busy_s += bound_s(at_peak->attention, attention[p], predicted.at_least) +
                        phases_[p].other_row_s * static_cast<double>(step.num_rows[p]);
  }
  Efficiency both = products[static_cast<std::size_t>(Phase::kPrefill)];
  const Efficiency& decode = products[static_cast<std::size_t>(Phase::kDecode)];
  const bool prefills = step.num_rows[static_cast<std::size_t>(Phase::kPrefill)] > 0;
  const bool decodes = step.num_rows[static_cast<std::size_t>(Phase::kDecode)] > 0;
  if (prefills && decodes) {
    all_products.memory_s -=
        static_cast<double>(std::min(step.work[0].weights, step.work[1].weights)) / peaks_.bandwidth;
    if (!both.compute || decode.compute > both.compute) both.compute = decode.compute;
    both.memory = decode.memory;
    both.least_compute = std::max(both.least_compute, decode.least_compute);
    both.least_memory = decode.least_memory;
  }
  predicted.busy_s += bound_s(all_products, prefills ? both : decode, predicted.at_least);
  double other_step_s = 0;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    if (step.num_rows[p] == 0) continue;
    other_step_s = std::max(other_step_s, phases_[p].other_step_s);
    predicted.gap_s = std::max(predicted.gap_s, phases_[p].gap_s);
  }
  predicted.busy_s += other_step_s;
  return predicted;
}

std::optional<PredictedStep> StepModel::predict(const StepWork& step, ComputeType attention_type) const {
  return time(step, attention_type, {phases_[0].products, phases_[1].products},
              {phases_[0].attention, phases_[1].attention});
}

std::optional<PredictedStep> StepModel::predict(const StepShape& shape, const Estimate& estimate) const {
  return predict(work_of(shape, estimate), estimate.attention_type());
}

std::optional<PredictedStep> StepModel::at_roofline(const StepShape& shape, const Estimate& estimate) const {
  constexpr Efficiency kWhole{1, 1, 1, 1};
  return time(work_of(shape, estimate), estimate.attention_type(), {kWhole, kWhole}, {kWhole, kWhole});
}

std::optional<StepShape> mean_step(const PhaseTotals& totals, Phase phase, const Estimate& estimate) {
  if (totals.steps <= 0) return std::nullopt;
  const double rows = rows_of(totals) / static_cast<double>(totals.steps);
  StepShape shape{.phase = phase};
  (phase == Phase::kDecode ? shape.batch : shape.num_new) = std::max<std::int64_t>(1, std::llround(rows));
  // A prefill step counts as one sequence's; what a sequence reads of the cache grows with its depth.
  const double sequences = static_cast<double>(totals.steps * shape.batch);
  const double read = static_cast<double>(totals.counts.kv_read_logical) / sequences;
  const double half_token = static_cast<double>(estimate.kv_bytes_per_token()) / 2;
  std::int64_t low = -1, high = 1 << 24;  // the least depth that reads as much lies above low, up to high
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (static_cast<double>(estimate.decode(1, middle).kv_read) + half_token > read ? high : low) = middle;
  }
  shape.depth = high;
  return shape;
}

}  // namespace redline
