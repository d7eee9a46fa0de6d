#include "engine/meter/meter_cost.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "kernels/ledger.h"

namespace redline {
namespace {

/// The best of many steps of `num_ops` products, every fourth of them attention, for `num_sequences`.
double step_ns(int num_ops, int num_sequences) {
  std::vector<SequenceWork> work;
  const std::vector<std::int32_t> rows(static_cast<std::size_t>(num_sequences));
  for (int i = 0; i < num_sequences; ++i)
    work.push_back({.query_start = i,
                    .num_new = 1,
                    .num_cached = 100,
                    .num_cached_unique = 100,
                    .num_logit_rows = 1,
                    .phase = Phase::kDecode});
  BatchView batch;
  batch.sequences = work;
  batch.token_ids = batch.positions = batch.logit_rows = rows;
  const OpCost product{.kind = OpKind::kLinear, .part = Part::kFfn, .flops_per_row = 2, .weight_bytes = 1};
  const OpCost attention{.kind = OpKind::kPagedAttention,
                         .part = Part::kAttention,
                         .flops_per_pair = 4,
                         .kv_read_bytes_per_token = 4};
  Ledger ledger;
  ledger.set_peaks({.flops = {1e12, 1e12, 1e12, 1e12}, .bandwidth = 1e11}, {});
  std::vector<Counts> usage(static_cast<std::size_t>(num_sequences));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 40; ++i) {
    const auto start = Ledger::Clock::now();
    ledger.begin_step(batch);
    for (int op = 0; op < num_ops; ++op) {
      ledger.charge(op % 4 ? product : attention, num_sequences);
      ledger.op_begins();
      ledger.op_done(op % 4 ? OpKind::kLinear : OpKind::kPagedAttention);
    }
    const StepCounts& counts = ledger.end_step();
    for (std::size_t s = 0; s < usage.size(); ++s) usage[s] += counts.sequences[s];
    best = std::min(best, std::chrono::duration<double, std::nano>(Ledger::Clock::now() - start).count());
  }
  return best;
}

}  // namespace

MeterCost measure_meter_cost() {
  constexpr int kOps = 320, kSequences = 64;
  const double small = step_ns(4, 1), many_ops = step_ns(kOps, 1), many_sequences = step_ns(4, kSequences);
  MeterCost cost;
  cost.op_ns = std::max(0.0, (many_ops - small) / (kOps - 4));
  cost.sequence_ns = std::max(0.0, (many_sequences - small) / (kSequences - 1));
  cost.step_ns = std::max(0.0, small - 4 * cost.op_ns - cost.sequence_ns);
  return cost;
}

}  // namespace redline
