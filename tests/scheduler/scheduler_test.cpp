#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

namespace redline {
namespace {

TEST(Scheduler, ComputesAPromptInChunksThenOneTokenAStep) {
  BlockAllocator blocks(10);
  PrefixCache cache(blocks, 4);
  Scheduler scheduler({.max_num_batched_tokens = 5}, blocks, cache);
  Sequence& sequence =
      *scheduler.add({.id = 1, .prompt = std::vector<std::int32_t>(7, 3), .max_num_tokens = 9}).sequence;
  std::vector<std::int32_t> sizes;
  while (scheduler.has_work()) {
    const StepPlan plan = scheduler.schedule();
    ASSERT_EQ(plan.sequences.size(), 1u);
    sizes.push_back(plan.sequences[0].num_tokens);
    EXPECT_EQ(plan.sequences[0].is_decode, sizes.size() == 3);
    scheduler.commit(plan);
    if (plan.sequences[0].needs_logits) scheduler.append_token(sequence, 5);
    EXPECT_EQ(scheduler.integrity_error(), std::nullopt);
    if (sequence.num_tokens() == sequence.max_num_tokens) scheduler.finish(sequence);
  }
  EXPECT_EQ(sizes, (std::vector<std::int32_t>{5, 2, 1}));
  EXPECT_EQ(blocks.num_free(), blocks.capacity());
}

}  // namespace
}  // namespace redline
