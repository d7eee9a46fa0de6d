#include "kernels/ledger.h"

#include <gtest/gtest.h>

namespace redline {
namespace {

TEST(CausalPairs, TelescopeOverChunks) {
  for (int cached : {0, 1, 7, 512})
    for (int a : {1, 5, 64})
      for (int b : {1, 9})
        EXPECT_EQ(causal_pairs(cached, a) + causal_pairs(cached + a, b), causal_pairs(cached, a + b));
}

TEST(CausalPairs, AWindowLimitsWhatEachTokenSees) {
  for (int window : {1, 2, 7, 64})
    for (int cached : {0, 1, 6, 7, 8, 100})
      for (int num_new : {1, 5, 90}) {
        std::int64_t pairs = 0;
        for (int i = cached + 1; i <= cached + num_new; ++i) pairs += std::min(i, window);
        EXPECT_EQ(causal_pairs(cached, num_new, window), pairs) << window << " " << cached << " " << num_new;
      }
  EXPECT_EQ(cached_in_window(5, 7), 5);
  EXPECT_EQ(cached_in_window(9, 7), 7);
  EXPECT_EQ(cached_in_window(9, 0), 9);
}

TEST(CausalPairs, TokensOfSharedBlocksAreUniqueOnceInAnyWindow) {
  // Two blocks of 4 that all share, then blocks of their own. Cached: 10, 11 and 9 tokens.
  const std::int32_t tables[] = {5, 6, 7, 5, 6, 8, 5, 6, 9};
  const SequenceWork work[] = {{.num_cached = 10, .num_cached_unique = 10, .table_start = 0},
                               {.num_cached = 11, .num_cached_unique = 3, .table_start = 3},
                               {.num_cached = 9, .num_cached_unique = 1, .table_start = 6}};
  BatchView batch;
  batch.sequences = work;
  batch.block_tables = tables;
  using Tokens = std::vector<std::int64_t>;
  EXPECT_EQ(unique_in_window(batch, 0, 4), (Tokens{10, 3, 1}));
  EXPECT_EQ(unique_in_window(batch, 100, 4), (Tokens{10, 3, 1}));
  EXPECT_EQ(unique_in_window(batch, 2, 4), (Tokens{2, 2, 2})) << "the third reads token 7 of the shared ones";
  EXPECT_EQ(unique_in_window(batch, 5, 4), (Tokens{5, 3, 2})) << "from tokens 5, 6 and 4 on";
}

TEST(Ledger, EachWindowCountsItsOwnPairsAndCachedTokens) {
  const SequenceWork work[] = {
      {.num_new = 4, .num_cached = 30, .num_recomputed = 1, .num_cached_unique = 30}};
  const std::int32_t tables[] = {1, 2, 3};
  BatchView batch;
  batch.sequences = work;
  batch.block_tables = tables;
  Ledger ledger;
  ledger.begin_step(batch);
  for (const std::int64_t window : {0, 8, 8})
    ledger.charge({.kind = OpKind::kPagedAttention,
                   .part = Part::kAttention,
                   .flops_per_pair = 2,
                   .window = window,
                   .kv_block_size = 16,
                   .kv_read_bytes_per_token = 4},
                  4);
  const Counts c = ledger.end_step().sequences.at(0);
  const int attention = static_cast<int>(Part::kAttention);
  EXPECT_EQ(c.flops[attention], 2 * (32 + 33 + 34) + 2 * 2 * (8 + 8 + 8));
  EXPECT_EQ(c.wasted_flops[attention], 2 * 31 + 2 * 2 * 8);
  EXPECT_EQ(c.kv_read, 4 * 30 + 2 * 4 * 8);
  EXPECT_EQ(c.kv_read_logical, c.kv_read);
  EXPECT_EQ(c.declared, 4 * 34 + 2 * 4 * 12);
}

TEST(Ledger, SequencesSumToPhasesAndWeightsToTheMatrix) {
  const SequenceWork work[] = {{.query_start = 0,
                                .num_new = 7,
                                .num_cached = 3,
                                .num_recomputed = 2,
                                .num_cached_unique = 3,
                                .num_logit_rows = 1,
                                .phase = Phase::kPrefill},
                               {.query_start = 7,
                                .num_new = 1,
                                .num_cached = 40,
                                .num_cached_unique = 24,
                                .num_logit_rows = 1,
                                .phase = Phase::kDecode},
                               {.query_start = 8,
                                .num_new = 1,
                                .num_cached = 11,
                                .num_cached_unique = 11,
                                .num_logit_rows = 1,
                                .phase = Phase::kDecode}};
  BatchView batch;
  batch.sequences = work;
  Ledger ledger;
  ledger.begin_step(batch);
  ledger.charge({.kind = OpKind::kLinear,
                 .part = Part::kFfn,
                 .flops_per_row = 2 * 5 * 3,
                 .weight_bytes = 1001,
                 .weight_bytes_stored = 1013},
                9);
  ledger.charge({.kind = OpKind::kPagedAttention,
                 .part = Part::kAttention,
                 .flops_per_pair = 8,
                 .kv_read_bytes_per_token = 4},
                9);
  const StepCounts& step = ledger.end_step();
  Counts sum[kNumPhases];
  for (int i = 0; i < 3; ++i)
    sum[static_cast<int>(work[i].phase)] += step.sequences[static_cast<std::size_t>(i)];
  EXPECT_EQ(sum[0], step.phase[0]);
  EXPECT_EQ(sum[1], step.phase[1]);
  EXPECT_EQ(step.phase[0].weights + step.phase[1].weights, 1001);
  EXPECT_EQ(step.phase[0].tokens, 5);
  EXPECT_EQ(step.phase[0].wasted_tokens, 2);
  EXPECT_EQ(step.phase[0].flops[static_cast<int>(Part::kFfn)], 30 * 5);
  EXPECT_EQ(step.phase[0].flops[static_cast<int>(Part::kAttention)],
            8 * (causal_pairs(3, 7) - causal_pairs(3, 2)));
  EXPECT_EQ(step.phase[0].wasted_flops[static_cast<int>(Part::kFfn)], 30 * 2);
  EXPECT_EQ(step.phase[0].wasted_flops[static_cast<int>(Part::kAttention)], 8 * causal_pairs(3, 2));
  EXPECT_EQ(step.phase[0].executed_flops(), 30 * 7 + 8 * causal_pairs(3, 7));
  EXPECT_EQ(step.phase[1].kv_read, 4 * (24 + 11));
  EXPECT_EQ(step.phase[1].kv_read_logical, 4 * (40 + 11));
}

constexpr int kFfnIndex = static_cast<int>(Part::kFfn);
constexpr int kHeadIndex = static_cast<int>(Part::kHead);
constexpr int kPrefillIndex = static_cast<int>(Phase::kPrefill);
constexpr int kDecodeIndex = static_cast<int>(Phase::kDecode);

SequenceWork sequence(Phase phase, int num_new, int num_cached, int num_logit_rows, int num_recomputed = 0) {
  return {.num_new = num_new,
          .num_cached = num_cached,
          .num_recomputed = num_recomputed,
          .num_cached_unique = num_cached,
          .num_logit_rows = num_logit_rows,
          .phase = phase};
}

OpCost embed_cost() {
  return {.kind = OpKind::kEmbed, .gathered_bytes_per_row = 20, .activation_bytes_per_row = 64};
}

OpCost head_cost(bool tied) {
  return {.kind = OpKind::kLinear,
          .part = Part::kHead,
          .compute = ComputeType::kInt8,
          .basis = RowBasis::kLogits,
          .flops_per_row = 320,
          .weight_bytes = 2000,
          .weight_bytes_stored = 2200,
          .holds_gathered_rows = tied};
}

Counts only_sequence_of(const SequenceWork& work, const std::vector<OpCost>& costs) {
  BatchView batch;
  batch.sequences = {&work, 1};
  Ledger ledger;
  ledger.begin_step(batch);
  for (const OpCost& cost : costs)
    ledger.charge(cost, cost.basis == RowBasis::kLogits ? work.num_logit_rows : work.num_new);
  return ledger.end_step().sequences.at(0);
}

TEST(Ledger, CountsATiedTableOnceWhereTheHeadReadsItWhole) {
  const SequenceWork work = sequence(Phase::kPrefill, 5, 0, 1);
  EXPECT_EQ(only_sequence_of(work, {embed_cost(), head_cost(false)}).weights, 5 * 20 + 2000);
  EXPECT_EQ(only_sequence_of(work, {embed_cost(), head_cost(true)}).weights, 2000);
  const SequenceWork chunk = sequence(Phase::kPrefill, 5, 0, 0);
  OpCost skipped_head = head_cost(true);  // no logit rows: Ops charges no weight
  skipped_head.weight_bytes = skipped_head.weight_bytes_stored = 0;
  EXPECT_EQ(only_sequence_of(chunk, {embed_cost(), skipped_head}).weights, 5 * 20);
}

TEST(Ledger, DeclaresGatheredRowsEvenWhereTheTableIsTied) {
  const Counts c = only_sequence_of(sequence(Phase::kPrefill, 5, 0, 1), {embed_cost(), head_cost(true)});
  EXPECT_EQ(c.declared, 5 * (20 + 64) + 2200);
}

TEST(Ledger, KeepsWastedWorkByPartAndByType) {
  const OpCost ffn{.kind = OpKind::kLinear,
                   .part = Part::kFfn,
                   .compute = ComputeType::kBF16,
                   .flops_per_row = 10,
                   .weight_bytes = 70};
  const OpCost norm{.kind = OpKind::kRmsNorm, .part = Part::kOther, .flops_per_row = 3};
  const Counts c = only_sequence_of(sequence(Phase::kPrefill, 6, 0, 1, 4), {ffn, norm, head_cost(false)});
  EXPECT_EQ(c.flops[kFfnIndex], 20);
  EXPECT_EQ(c.wasted_flops[kFfnIndex], 40);
  EXPECT_EQ(c.flops[kHeadIndex], 320);
  EXPECT_EQ(c.wasted_flops_by_type[static_cast<int>(ComputeType::kBF16)], 40);
  EXPECT_EQ(c.wasted_flops_by_type[static_cast<int>(ComputeType::kInt8)], 0);
  EXPECT_EQ(c.useful_flops(), 20 + 320);
  EXPECT_EQ(c.executed_flops(), 60 + 320);
  EXPECT_EQ(c.weights, 70 + 2000) << "useful rows needed every weight";
}

TEST(Ledger, AStepOfRecomputationAloneIsAllWaste) {
  const OpCost ffn{.kind = OpKind::kLinear, .part = Part::kFfn, .flops_per_row = 10, .weight_bytes = 70};
  const OpCost kv{.kind = OpKind::kPagedAttention, .kv_read_bytes_per_token = 8};
  const OpCost store{.kind = OpKind::kRopeAndStoreKv, .kv_write_bytes_per_token = 8};
  const Counts c = only_sequence_of(sequence(Phase::kPrefill, 4, 9, 1, 4),
                                    {embed_cost(), store, kv, ffn, head_cost(false)});
  EXPECT_EQ(c.useful_flops(), 0);
  EXPECT_EQ(c.min_bytes(), 0);
  EXPECT_EQ(c.executed_flops(), 40 + 320);
  EXPECT_EQ(c.wasted_bytes, 4 * 20 + 4 * 8 + 9 * 8 + 70 + 2000);
}

TEST(Counts, TurnedToWasteKeepWhatWasExecuted) {
  const OpCost ffn{.kind = OpKind::kLinear, .part = Part::kFfn, .flops_per_row = 10, .weight_bytes = 70};
  const Counts c = only_sequence_of(sequence(Phase::kPrefill, 6, 3, 1, 4), {ffn, head_cost(false)});
  const Counts wasted = c.as_wasted();
  EXPECT_EQ(wasted.useful_flops(), 0);
  EXPECT_EQ(wasted.min_bytes(), 0);
  EXPECT_EQ(wasted.tokens, 0);
  EXPECT_EQ(wasted.wasted_tokens, 6);
  EXPECT_EQ(wasted.executed_flops(), c.executed_flops());
  EXPECT_EQ(wasted.wasted_bytes, c.min_bytes() + c.wasted_bytes);
  EXPECT_EQ(wasted.declared, c.declared);
  Counts back = c;
  back += wasted;
  back -= wasted;
  EXPECT_EQ(back, c);
}

TEST(Ledger, DeclaresCopiedBlocks) {
  const OpCost copy{.kind = OpKind::kCopyKvBlocks, .copied_bytes = 4096};
  const Counts c = only_sequence_of(sequence(Phase::kDecode, 1, 30, 1), {copy});
  EXPECT_EQ(c.declared, 4096);
  EXPECT_EQ(c.min_bytes(), 0);
}

Peaks peaks_of(double bf16, double bandwidth) {
  Peaks peaks;
  peaks.flops[static_cast<int>(ComputeType::kBF16)] = bf16;
  peaks.bandwidth = bandwidth;
  return peaks;
}

TEST(Ledger, IdealTimeIsTheRooflineOfEachOperationAndUnknownWithoutAPeak) {
  const SequenceWork work[] = {sequence(Phase::kPrefill, 30, 0, 1), sequence(Phase::kDecode, 1, 10, 1)};
  BatchView batch;
  batch.sequences = work;
  OpCost compute{.kind = OpKind::kLinear, .part = Part::kFfn, .compute = ComputeType::kBF16};
  compute.flops_per_row = 1000;
  compute.weight_bytes = 100;
  compute.weight_bytes_stored = 120;
  OpCost memory = compute;
  memory.flops_per_row = 1;
  Ledger ledger;
  ledger.set_peaks(peaks_of(1e9, 1e9), {});
  ledger.begin_step(batch);
  ledger.charge(compute, 31);
  ledger.charge(memory, 31);
  StepCounts step = ledger.end_step();
  EXPECT_DOUBLE_EQ(step.ideal_ns_attainable[0] + step.ideal_ns_attainable[1], 31 * 1000 + 120);
  EXPECT_DOUBLE_EQ(step.ideal_ns_attainable[kDecodeIndex] * 30, step.ideal_ns_attainable[kPrefillIndex]);
  EXPECT_EQ(step.ideal_ns_vendor[kDecodeIndex], 0);

  ledger.begin_step(batch);
  compute.compute = ComputeType::kInt8;  // whose peak is not known
  ledger.charge(memory, 31);
  ledger.charge(compute, 31);
  step = ledger.end_step();
  EXPECT_EQ(step.ideal_ns_attainable[kPrefillIndex], 0);
}

TEST(Ledger, KindsOfAMixedStepSumToItsPhasesAndTheirFlopsAreExact) {
  const SequenceWork work[] = {sequence(Phase::kPrefill, 7, 5, 1), sequence(Phase::kDecode, 1, 90, 1)};
  BatchView batch;
  batch.sequences = work;
  OpCost product{.kind = OpKind::kLinear, .part = Part::kFfn, .compute = ComputeType::kBF16};
  product.flops_per_row = 1000;
  product.weight_bytes = product.weight_bytes_stored = 100;
  OpCost attention{.kind = OpKind::kPagedAttention, .part = Part::kAttention, .compute = ComputeType::kBF16};
  attention.flops_per_pair = 4;
  attention.kv_read_bytes_per_token = 40;
  OpCost norm{.kind = OpKind::kRmsNorm, .part = Part::kOther, .compute = ComputeType::kBF16};
  norm.flops_per_row = 6;
  norm.activation_bytes_per_row = 64;
  Ledger ledger;
  ledger.set_peaks(peaks_of(1e9, 1e9), peaks_of(2e9, 4e9));
  ledger.begin_step(batch);
  for (const OpCost& cost : {product, attention, norm}) {
    ledger.charge(cost, 8);
    ledger.op_begins();
    ledger.op_done(cost.kind);
  }
  const StepCounts& step = ledger.end_step();
  KindTimes sum[kNumPhases], both;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    for (const KindTimes& kind : step.kinds[p]) sum[p] += kind;
    both += sum[p];
    EXPECT_DOUBLE_EQ(sum[p].busy_ns, step.busy_ns[p]);
    EXPECT_DOUBLE_EQ(sum[p].roofline_ns_attainable, step.ideal_ns_attainable[p]);
    EXPECT_DOUBLE_EQ(sum[p].roofline_ns_vendor, step.ideal_ns_vendor[p]);
    EXPECT_DOUBLE_EQ(sum[p].compute_ns_attainable, static_cast<double>(step.phase[p].executed_flops()))
        << "at 1 FLOP/ns, and without norms";
    EXPECT_DOUBLE_EQ(sum[p].compute_ns_vendor, static_cast<double>(step.phase[p].executed_flops()) / 2);
  }
  std::int64_t ns = 0;
  for (const std::int64_t kind_ns : step.kind_ns) ns += kind_ns;
  EXPECT_NEAR(both.busy_ns, static_cast<double>(ns), 1e-6);
  EXPECT_DOUBLE_EQ(both.roofline_ns_attainable, 8 * 1000 + 40 * (5 + 90 + 8) + 8 * 64)
      << "the product by its FLOPs, attention and norm by their bytes";
  const auto attended = static_cast<std::size_t>(OpKind::kPagedAttention);
  EXPECT_DOUBLE_EQ(step.kinds[kPrefillIndex][attended].busy_ns * 40 * (90 + 1),
                   step.kinds[kDecodeIndex][attended].busy_ns * 40 * (5 + 7))
      << "a kind's time is split by its own roofline";
}

TEST(Ledger, SwitchedOffCountsNothing) {
  const SequenceWork work = sequence(Phase::kDecode, 1, 10, 1);
  BatchView batch;
  batch.sequences = {&work, 1};
  Ledger ledger;
  ledger.set_enabled(false);
  ledger.begin_step(batch);
  ledger.charge(head_cost(false), 1);
  const StepCounts& step = ledger.end_step();
  ASSERT_EQ(step.sequences.size(), 1u);
  EXPECT_EQ(step.sequences[0], Counts{});
  EXPECT_EQ(step.phase[kDecodeIndex], Counts{});
}

}  // namespace
}  // namespace redline
