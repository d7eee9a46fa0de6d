// A target for the time of a step, under a clock that goes as the steps say.
#include "scheduler/step_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "scheduler/scheduler.h"

namespace redline {
namespace {

// 4 ms for the weights, as long as compute takes no longer; then 0.1 ms a row, and the caches in every case.
double device_s(const StepLoad& load) {
  const double rows = static_cast<double>(load.num_decodes + load.num_prompt_tokens);
  return std::max(4e-3, 0.1e-3 * rows) +
         1e-6 * static_cast<double>(load.num_decode_cached + load.num_prompt_cached);
}

struct Outcome {
  double seconds = 0, longest_step_s = 0, worst_tpot_s = 0;
  std::size_t most_decodes = 0;
  int num_steps = 0, num_ended = 0;
};

/// Requests of 300 tokens that ask for 40 arrive every `gap_s`.
Outcome simulate(double target_s, int num_requests, double gap_s) {
  SchedulerOptions options{.max_num_batched_tokens = 256, .max_num_seqs = 64};
  options.target_step_s = target_s;
  if (target_s > 0) options.step_seconds = device_s;
  BlockAllocator blocks(4001);
  PrefixCache cache(blocks, 16);
  Scheduler scheduler(options, blocks, cache);
  Outcome outcome;
  std::map<SequenceId, double> first_s;
  double now_s = 0;
  for (int arrived = 0; outcome.num_ended < num_requests;) {
    for (; arrived < num_requests && gap_s * arrived <= now_s; ++arrived)
      scheduler.add(
          {.id = arrived, .prompt = std::vector<std::int32_t>(300, arrived), .max_num_tokens = 340});
    if (!scheduler.has_work()) {
      now_s = gap_s * arrived;
      continue;
    }
    const StepPlan plan = scheduler.schedule();
    StepLoad sums;
    for (const ScheduledSequence& each : plan.sequences)
      each.is_decode ? sums.add_decode(each.sequence->num_computed_tokens)
                     : sums.add_chunk(each.num_tokens, each.sequence->num_computed_tokens);
    EXPECT_EQ(sums.num_decodes, plan.load.num_decodes);
    EXPECT_EQ(sums.num_decode_cached, plan.load.num_decode_cached);
    EXPECT_EQ(sums.num_prompt_tokens, plan.load.num_prompt_tokens);
    EXPECT_EQ(sums.num_prompt_cached, plan.load.num_prompt_cached);
    EXPECT_FALSE(plan.empty());
    const double step_s = device_s(plan.load);
    now_s += step_s;
    ++outcome.num_steps;
    outcome.longest_step_s = std::max(outcome.longest_step_s, step_s);
    outcome.most_decodes = std::max(outcome.most_decodes, static_cast<std::size_t>(plan.load.num_decodes));
    scheduler.commit(plan);
    for (const ScheduledSequence& each : plan.sequences) {
      if (!each.needs_logits) continue;
      Sequence& sequence = *each.sequence;
      first_s.emplace(sequence.id, now_s);
      scheduler.append_token(sequence, 5);
      if (sequence.num_tokens() < sequence.max_num_tokens) continue;
      outcome.worst_tpot_s = std::max(outcome.worst_tpot_s, (now_s - first_s.at(sequence.id)) / 39);
      scheduler.finish(sequence);
      ++outcome.num_ended;
    }
    EXPECT_EQ(scheduler.integrity_error(), std::nullopt);
  }
  outcome.seconds = now_s;
  return outcome;
}

TEST(StepBudget, KeepsEveryStepWithinATargetThatCanBeKept) {
  const Outcome free = simulate(0, 60, 0.02);
  EXPECT_GT(free.worst_tpot_s, 15e-3) << "else there is nothing to keep";
  for (const double target_s : {8e-3, 12e-3}) {
    const Outcome kept = simulate(target_s, 60, 0.02);
    EXPECT_LE(kept.longest_step_s, 1.02 * target_s) << "caches grow a little after an admission";
    EXPECT_LE(kept.worst_tpot_s, target_s);
    EXPECT_GT(kept.worst_tpot_s, 0.6 * target_s) << "it is used, too";
  }
}

TEST(StepBudget, BoundsHowManyDecodeAtATime) {
  EXPECT_GT(simulate(0, 64, 0).most_decodes, 25u);
  EXPECT_LE(simulate(8e-3, 64, 0).most_decodes, 13u) << "of 300 and more cached tokens each, 4 ms take 13";
}

TEST(StepBudget, ATargetThatNothingKeepsIsMissedAndEverythingEnds) {
  const Outcome outcome = simulate(1e-3, 20, 0.01);
  EXPECT_EQ(outcome.num_ended, 20);
  EXPECT_EQ(outcome.most_decodes, 1u) << "one at a time comes nearest";
  EXPECT_LT(outcome.longest_step_s, 5e-3);
}

TEST(StepBudget, ALooseTargetCostsNothing) {
  const Outcome free = simulate(0, 60, 0.02), loose = simulate(1, 60, 0.02);
  EXPECT_EQ(loose.seconds, free.seconds);
  EXPECT_EQ(loose.num_steps, free.num_steps);
}

TEST(StepBudget, FillsAStepToTheTargetAndNoFurther) {
  const StepSeconds seconds = device_s;
  StepBudget budget(1000, 10e-3, seconds);
  Sequence sequence;
  sequence.tokens.resize(700);
  const std::int32_t chunk = budget.chunk(sequence, 700);
  EXPECT_EQ(chunk, 100) << "at 0.1 ms a row";
  budget.take(sequence, chunk, false);
  EXPECT_EQ(budget.chunk(sequence, 700), 0) << "a prompt is in it already";
  StepBudget tight(1000, 1e-3, seconds);
  EXPECT_EQ(tight.chunk(sequence, 700), StepBudget::kLeastChunk);
  EXPECT_EQ(tight.chunk(sequence, 3), 3);
}

}  // namespace
}  // namespace redline
