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
  EXPECT_EQ(step.phase[0].wasted_flops, 30 * 2 + 8 * causal_pairs(3, 2));
  EXPECT_EQ(step.phase[1].kv_read, 4 * (24 + 11));
  EXPECT_EQ(step.phase[1].kv_read_logical, 4 * (40 + 11));
}

}  // namespace
}  // namespace redline
