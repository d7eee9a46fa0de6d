#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

namespace redline {
namespace {

using Tokens = std::vector<std::int32_t>;

struct Fixture {
  explicit Fixture(const SchedulerOptions& options, std::int32_t num_blocks, std::int32_t block_size = 4)
      : blocks(num_blocks + 1), cache(blocks, block_size), scheduler(options, blocks, cache) {}

  Sequence& add(SequenceId id, Tokens prompt, std::int32_t max_new, std::int32_t priority = 0,
                std::int32_t n = 1, const std::string& tenant = {}) {
    const auto max_num_tokens = static_cast<std::int32_t>(prompt.size()) + max_new;
    return *scheduler
                .add({.id = id,
                      .prompt = std::move(prompt),
                      .max_num_tokens = max_num_tokens,
                      .n = n,
                      .priority = priority,
                      .tenant = tenant})
                .sequence;
  }
  Sequence& add_of(const std::string& tenant, SequenceId id, Tokens prompt, std::int32_t max_new) {
    return add(id, std::move(prompt), max_new, 0, 1, tenant);
  }

  // Schedules and commits; every sequence with logits gets its own id as the next token. Returns the step as
  // {id, tokens} pairs.
  std::vector<std::pair<SequenceId, std::int32_t>> step() {
    last = scheduler.schedule();
    std::vector<std::pair<SequenceId, std::int32_t>> result;
    for (const ScheduledSequence& s : last.sequences) result.emplace_back(s.sequence->id, s.num_tokens);
    scheduler.commit(last);
    for (const ScheduledSequence& s : last.sequences) {
      if (!s.needs_logits) continue;
      scheduler.append_token(*s.sequence, static_cast<std::int32_t>(s.sequence->id));
      if (s.sequence->num_tokens() == s.sequence->max_num_tokens) scheduler.finish(*s.sequence);
    }
    EXPECT_EQ(scheduler.integrity_error(), std::nullopt);
    EXPECT_EQ(blocks.integrity_error(), std::nullopt);
    EXPECT_EQ(cache.integrity_error(), std::nullopt);
    return result;
  }

  BlockAllocator blocks;
  PrefixCache cache;
  Scheduler scheduler;
  StepPlan last;
};

using Step = std::vector<std::pair<SequenceId, std::int32_t>>;

TEST(Scheduler, ComputesAPromptInChunksThenOneTokenAStep) {
  Fixture f({.max_num_batched_tokens = 5}, 9);
  f.add(1, Tokens(7, 3), 3);
  EXPECT_EQ(f.step(), (Step{{1, 5}}));
  EXPECT_FALSE(f.last.sequences[0].needs_logits);
  EXPECT_EQ(f.step(), (Step{{1, 2}}));
  EXPECT_TRUE(f.last.sequences[0].needs_logits);
  EXPECT_FALSE(f.last.sequences[0].is_decode);
  EXPECT_EQ(f.step(), (Step{{1, 1}}));
  EXPECT_TRUE(f.last.sequences[0].is_decode);
  EXPECT_EQ(f.step(), (Step{{1, 1}}));
  EXPECT_FALSE(f.scheduler.has_work());
  EXPECT_TRUE(f.scheduler.schedule().empty());
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, PromptsThatNeedAllTheirLogitsShareARowsBound) {
  Fixture f({.max_num_batched_tokens = 20, .max_prompt_logits = 6}, 100);
  for (const SequenceId id : {1, 2})
    f.scheduler.add({.id = id,
                     .prompt = Tokens(8, 5),
                     .max_num_tokens = 10,
                     .use_prefix_cache = false,
                     .needs_prompt_logits = true});
  f.add(3, Tokens(4, 7), 2);
  EXPECT_EQ(f.step(), (Step{{1, 6}, {3, 4}})) << "others pass the one that finds no row";
  EXPECT_TRUE(f.last.sequences[0].needs_all_logits);
  EXPECT_FALSE(f.last.sequences[1].needs_all_logits);
  EXPECT_EQ(f.step(), (Step{{3, 1}, {1, 2}, {2, 4}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 4}}));
  EXPECT_FALSE(f.last.sequences[0].needs_all_logits) << "its prompt has been computed";
  EXPECT_TRUE(f.last.sequences[1].needs_all_logits);
}

TEST(Scheduler, MixesPromptChunksWithDecodesUnderOneBudget) {
  Fixture f({.max_num_batched_tokens = 8, .max_chunk_tokens = 6}, 20);
  f.add(1, Tokens(3, 1), 9);
  EXPECT_EQ(f.step(), (Step{{1, 3}}));
  f.add(2, Tokens(10, 2), 9);
  f.add(3, Tokens(5, 3), 9);
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 6}, {3, 1}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 4}, {3, 3}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 1}, {3, 1}}));
}

TEST(Scheduler, AdmitsInOrderOfPriorityThenArrival) {
  Fixture f({.max_num_seqs = 1}, 20);
  f.add(1, {1}, 1);
  f.add(2, {1}, 1);
  f.add(3, {1}, 1, /*priority=*/-1);
  f.add(4, {1}, 1, /*priority=*/1);
  f.add(5, {1}, 1);
  Tokens order;
  while (f.scheduler.has_work()) order.push_back(static_cast<std::int32_t>(f.step()[0].first));
  EXPECT_EQ(order, (Tokens{3, 1, 2, 5, 4}));
}

TEST(Scheduler, ALowPriorityIsOvertakenByNoMoreThanTheHeadStart) {
  Fixture f({.max_num_seqs = 1, .priority_head_start = 3}, 20);
  f.add(100, {1}, 1, /*priority=*/1);
  Tokens order;
  for (SequenceId id = 1; order.empty() || order.back() != 100; ++id) {
    ASSERT_LT(id, 10);
    f.add(id, {1}, 1);
    order.push_back(static_cast<std::int32_t>(f.step()[0].first));
  }
  EXPECT_EQ(order, (Tokens{1, 2, 100}));
}

TEST(Scheduler, RejectsWhatNeverFitsWithBothNumbers) {
  Fixture f({.max_num_seqs = 4}, 3);
  const AddResult too_long = f.scheduler.add({.id = 1, .prompt = Tokens(10, 1), .max_num_tokens = 14});
  EXPECT_EQ(too_long.sequence, nullptr);
  EXPECT_NE(too_long.error.find("13"), std::string::npos);
  EXPECT_NE(too_long.error.find("12"), std::string::npos);
  const AddResult too_many = f.scheduler.add({.id = 1, .prompt = {1}, .max_num_tokens = 2, .n = 5});
  EXPECT_NE(too_many.error.find("5 answers"), std::string::npos);
  EXPECT_NE(too_many.error.find("at most 4"), std::string::npos);
  EXPECT_NE(f.scheduler.add({.id = 1, .prompt = Tokens(10, 1), .max_num_tokens = 13}).sequence, nullptr);
}

TEST(Scheduler, WaitsForMemoryAndLeavesRoomToGrow) {
  Fixture f({.watermark = 0.2}, 5);
  f.add(1, Tokens(8, 1), 9);
  f.add(2, Tokens(12, 2), 2);  // the pool has just the three blocks, but one is to stay free
  EXPECT_EQ(f.step(), (Step{{1, 8}}));
  EXPECT_EQ(f.scheduler.stats().num_waiting, 1);
  f.scheduler.abort(1);
  EXPECT_EQ(f.step(), (Step{{2, 12}}));
}

TEST(Scheduler, PreemptsTheLastInOrderAndCountsWhatItComputesAgain) {
  Fixture f({.enable_prefix_cache = false, .watermark = 0}, 4);
  f.add(1, Tokens(7, 1), 9);
  f.add(2, Tokens(6, 2), 9);
  EXPECT_EQ(f.step(), (Step{{1, 7}, {2, 6}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 1}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}}));  // needs a third block
  ASSERT_EQ(f.last.preempted.size(), 1u);
  EXPECT_EQ(f.last.preempted[0]->id, 2);
  EXPECT_EQ(f.scheduler.stats().num_preemptions, 1);
  while (f.scheduler.find(1)) EXPECT_EQ(f.step(), (Step{{1, 1}}));
  EXPECT_EQ(f.step(), (Step{{2, 8}}));
  EXPECT_EQ(f.last.sequences[0].num_recomputed, 7);
  EXPECT_FALSE(f.last.sequences[0].is_decode);
  EXPECT_EQ(f.step(), (Step{{2, 1}}));
  EXPECT_EQ(f.last.sequences[0].num_recomputed, 0);
}

TEST(Scheduler, APromptHitsAllButItsLastToken) {
  Fixture f({}, 20);
  f.add(1, Tokens(8, 1), 1);
  f.step();
  const Sequence& same = f.add(2, Tokens(8, 1), 1);
  const Sequence& longer = f.add(3, Tokens(9, 1), 1);
  EXPECT_EQ(f.step(), (Step{{2, 4}, {3, 1}}));
  EXPECT_EQ(same.num_cached_tokens, 4);
  EXPECT_EQ(longer.num_cached_tokens, 8);
  EXPECT_EQ(f.scheduler.stats().num_prefix_queries, 8 + 8 + 9);
  EXPECT_EQ(f.scheduler.stats().num_prefix_hits, 4 + 8);
}

TEST(Scheduler, CachedBlocksAreNotCountedAsFreeTwice) {
  Fixture f({.watermark = 0}, 4);
  f.add(1, Tokens(8, 1), 1);
  f.step();                      // leaves two cached blocks, unreferenced
  f.add(2, Tokens(9, 1), 1);     // shares both, takes a third
  f.add(3, {5, 5, 5, 5, 5}, 1);  // wants two
  EXPECT_EQ(f.step(), (Step{{2, 1}}));
  EXPECT_EQ(f.step(), (Step{{3, 5}}));
}

TEST(Scheduler, EqualPromptsEndUpInTheSameBlocks) {
  Fixture f({}, 20);
  const Sequence& a = f.add(1, Tokens(8, 1), 5);
  const Sequence& b = f.add(2, Tokens(8, 1), 5);
  EXPECT_EQ(f.step(), (Step{{1, 8}, {2, 8}}));
  EXPECT_EQ(a.blocks, b.blocks);
  EXPECT_EQ(f.scheduler.stats().num_used_blocks, 2);
}

TEST(Scheduler, NothingIsPublishedBeforeTheStepIsCommittedAndLogitsAreKnown) {
  Fixture f({.max_num_batched_tokens = 6}, 20);
  f.add(1, Tokens(8, 1), 5);
  f.step();
  EXPECT_EQ(f.cache.num_published(), 0);
  const StepPlan last_chunk = f.scheduler.schedule();
  EXPECT_EQ(f.cache.num_published(), 0);
  f.scheduler.abort(1);  // its logits are not finite, say
  f.scheduler.commit(last_chunk);
  EXPECT_EQ(f.cache.num_published(), 0);
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, AFailedStepEndsItsSequencesAndPublishesNothing) {
  Fixture f({.max_num_batched_tokens = 8}, 20);
  f.add(1, Tokens(8, 1), 5);
  f.add(2, Tokens(8, 2), 5);
  const StepPlan plan = f.scheduler.schedule();
  f.scheduler.abandon(plan);
  EXPECT_EQ(f.scheduler.find(1), nullptr);
  EXPECT_EQ(f.cache.num_published(), 0);
  EXPECT_EQ(f.step(), (Step{{2, 8}}));
}

TEST(Scheduler, ForksShareBlocksUntilOneWritesThenCopyThePartialOne) {
  Fixture f({}, 20);
  Sequence& parent = f.add(1, Tokens(6, 1), 4, 0, /*n=*/3);
  const StepPlan prompt = f.scheduler.schedule();
  f.scheduler.commit(prompt);
  Sequence& b = f.scheduler.fork(parent, 2);
  Sequence& c = f.scheduler.fork(parent, 3);
  EXPECT_EQ(b.blocks, parent.blocks);
  EXPECT_EQ(f.scheduler.stats().num_used_blocks, 2);
  for (Sequence* sequence : {&parent, &b, &c})
    f.scheduler.append_token(*sequence, static_cast<std::int32_t>(sequence->id));
  const BlockId shared = parent.blocks[1];
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 1}, {3, 1}}));
  ASSERT_EQ(f.last.block_copies.size(), 2u);
  EXPECT_EQ(f.last.block_copies[0].source, shared);
  EXPECT_EQ(f.last.block_copies[0].target, parent.blocks[1]);
  EXPECT_EQ(f.last.block_copies[1].target, b.blocks[1]);
  EXPECT_EQ(c.blocks[1], shared);  // the last to write keeps it
  EXPECT_EQ(f.scheduler.stats().num_used_blocks, 4);
  EXPECT_EQ(parent.blocks[0], c.blocks[0]);
}

TEST(Scheduler, SeatsOfForksToComeAreHeld) {
  Fixture f({.max_num_seqs = 3}, 20);
  Sequence& parent = f.add(1, Tokens(4, 1), 4, 0, /*n=*/2);
  f.add(2, Tokens(4, 2), 4, 0, /*n=*/2);
  f.add(3, Tokens(4, 3), 4);
  EXPECT_EQ(f.step(), (Step{{1, 4}}));  // order is kept: the third would fit, but not before the second
  f.scheduler.finish(parent);
  EXPECT_EQ(f.step(), (Step{{2, 4}, {3, 4}}));
}

TEST(Scheduler, AbortsAtAnyTimeAndToleratesUnknownIds) {
  Fixture f({.max_num_batched_tokens = 4}, 20);
  f.add(1, Tokens(8, 1), 4);
  f.add(2, Tokens(8, 2), 4);
  EXPECT_FALSE(f.scheduler.abort(7));
  EXPECT_EQ(f.step(), (Step{{1, 4}}));
  EXPECT_TRUE(f.scheduler.abort(1));
  EXPECT_FALSE(f.scheduler.abort(1));
  EXPECT_EQ(f.step(), (Step{{2, 4}}));
  const StepPlan plan = f.scheduler.schedule();
  EXPECT_TRUE(f.scheduler.abort(2));
  f.scheduler.commit(plan);
  EXPECT_FALSE(f.scheduler.has_work());
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, StatsTellUseAndFragmentation) {
  Fixture f({}, 10);
  f.add(1, Tokens(5, 1), 4);
  f.step();
  const SchedulerStats stats = f.scheduler.stats();
  EXPECT_EQ(stats.num_running, 1);
  EXPECT_EQ(stats.num_used_blocks, 2);
  EXPECT_EQ(stats.num_blocks, 10);
  EXPECT_DOUBLE_EQ(stats.fragmentation, 2.0 / 8);  // six tokens are known
}

TEST(Scheduler, BlocksThatTheWindowHasPassedAreFreed) {
  Fixture f({.max_num_batched_tokens = 8, .enable_prefix_cache = false, .window = 6}, 9);
  Sequence& sequence = f.add(1, Tokens(20, 3), 13);
  const std::int32_t used[] = {5, 3, 2};  // after 8, 16, 20 tokens: from token 3, 11, 15 on
  for (const std::int32_t expected : used) {
    f.step();
    EXPECT_EQ(f.scheduler.stats().num_used_blocks, expected);
  }
  EXPECT_EQ(sequence.blocks[2], kTrashBlock);
  EXPECT_NE(sequence.blocks[3], kTrashBlock);
  while (f.scheduler.has_work()) {
    f.step();
    EXPECT_LE(f.scheduler.stats().num_used_blocks, 3) << "6 tokens and the next lie in 3 blocks of 4";
  }
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, BlocksThatThePrefixCacheKnowsAreKeptBehindTheWindow) {
  Fixture f({.window = 6}, 9);
  Sequence& sequence = f.add(1, {1, 2, 3, 4, 5}, 20);
  for (int i = 0; i < 15; ++i) f.step();  // 19 tokens computed, the next sees tokens 14 to 19
  EXPECT_EQ(sequence.num_published_blocks, 1) << "of the first 6 tokens";
  EXPECT_NE(sequence.blocks[0], kTrashBlock);
  EXPECT_EQ(sequence.blocks[1], kTrashBlock);
  EXPECT_EQ(sequence.blocks[2], kTrashBlock);
  EXPECT_NE(sequence.blocks[3], kTrashBlock);
  Sequence& other = f.add(2, {1, 2, 3, 4, 9}, 2);
  f.step();
  EXPECT_EQ(other.num_cached_tokens, 4);
  f.scheduler.abort(1);
  f.scheduler.abort(2);
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, ATenantThatFloodsLetsAnotherPassAsSoonAsThereIsASeat) {
  Fixture f({.max_num_seqs = 2}, 40);
  for (SequenceId id = 1; id <= 10; ++id) f.add_of("flood", id, {1, 1}, 3);
  EXPECT_EQ(f.step(), (Step{{1, 2}, {2, 2}}));
  f.add_of("other", 11, {1, 1}, 3);
  while (f.scheduler.find(1)) f.step();
  EXPECT_EQ(f.step(), (Step{{11, 2}, {3, 2}}));
}

TEST(Scheduler, TenantsTakeTurnsByTokensNotByRequests) {
  Fixture f({.max_num_batched_tokens = 8, .max_num_seqs = 8, .enable_prefix_cache = false}, 40);
  for (SequenceId id = 1; id <= 2; ++id) f.add_of("long", id, Tokens(16, 1), 1);
  for (SequenceId id = 11; id <= 20; ++id) f.add_of("short", id, Tokens(4, 1), 1);
  EXPECT_EQ(f.step(), (Step{{1, 8}}));
  EXPECT_EQ(f.step(), (Step{{11, 4}, {12, 4}}));
  EXPECT_EQ(f.step(), (Step{{1, 8}}));
  EXPECT_EQ(f.step(), (Step{{13, 4}, {14, 4}}));
}

TEST(Scheduler, ATenantGetsNoCreditForATimeInWhichItAskedForNothing) {
  Fixture f({.max_num_batched_tokens = 4, .max_num_seqs = 4, .enable_prefix_cache = false}, 40);
  SequenceId next = 1;
  const auto flood = [&](const std::string& tenant) {
    for (int i = 0; i < 4; ++i) f.add_of(tenant, next++, Tokens(4, 1), 1);
  };
  for (int i = 0; i < 20; ++i) flood("early");
  for (int i = 0; i < 40; ++i) f.step();
  flood("late");
  std::string turns;
  for (int i = 0; i < 6; ++i) {
    f.last = f.scheduler.schedule();
    turns += f.last.sequences[0].sequence->id > 80 ? 'l' : 'e';
    f.scheduler.commit(f.last);
    f.scheduler.finish(*f.last.sequences[0].sequence);
  }
  EXPECT_EQ(std::ranges::count(turns, 'l'), 3) << turns;
}

TEST(Scheduler, ATenantAtItsLimitOfBlocksWaitsAndOthersPassIt) {
  Fixture f({.watermark = 0, .kv_shares = {{"small", 0.4}}}, 10);  // four blocks
  f.add_of("small", 1, Tokens(8, 1), 2);
  f.add_of("small", 2, Tokens(12, 2), 2);
  f.add_of("large", 3, Tokens(20, 3), 2);
  EXPECT_EQ(f.step(), (Step{{1, 8}, {3, 20}}));
  while (f.scheduler.find(1)) f.step();
  EXPECT_EQ(f.step().back(), (std::pair<SequenceId, std::int32_t>{2, 12}));
}

TEST(Scheduler, ATenantThatGrowsBeyondItsLimitPreemptsItselfAlone) {
  Fixture f({.enable_prefix_cache = false, .watermark = 0, .kv_shares = {{"small", 0.3}}}, 10);  // three
  f.add_of("other", 3, Tokens(7, 3), 9);
  f.add_of("small", 1, Tokens(7, 1), 5);
  f.add_of("small", 2, Tokens(4, 2), 5);
  EXPECT_EQ(f.step().size(), 3u);
  f.step();
  ASSERT_EQ(f.last.preempted.size(), 1u);
  EXPECT_EQ(f.last.preempted[0]->id, 2) << "its fifth token would be the tenant's fourth block";
  while (f.scheduler.find(1)) {
    f.step();
    EXPECT_TRUE(f.last.preempted.empty());
  }
  while (f.scheduler.has_work()) f.step();
  EXPECT_EQ(f.blocks.num_free(), f.blocks.capacity());
}

TEST(Scheduler, ARequestThatNeverFitsItsTenantsLimitIsRejectedWithBothNumbers) {
  Fixture f({.kv_share = 0.5, .kv_shares = {{"large", 1}}}, 10);
  SequenceSpec spec{.id = 1, .prompt = Tokens(20, 1), .max_num_tokens = 22, .tenant = "any"};
  const AddResult refused = f.scheduler.add(spec);
  EXPECT_NE(refused.error.find("21"), std::string::npos) << refused.error;
  EXPECT_NE(refused.error.find("20"), std::string::npos) << refused.error;
  spec.tenant = "large";
  EXPECT_NE(f.scheduler.add(spec).sequence, nullptr);
}

TEST(Scheduler, PreemptionTakesFromTheTenantThatHoldsTheMost) {
  Fixture f({.enable_prefix_cache = false, .watermark = 0}, 6);
  f.add_of("a", 1, Tokens(4, 1), 20);  // grows by the second step
  f.add_of("b", 2, Tokens(7, 2), 9);
  f.add_of("c", 3, Tokens(10, 3), 9);
  EXPECT_EQ(f.step().size(), 3u);  // one, two and three blocks: all
  f.step();
  ASSERT_EQ(f.last.preempted.size(), 1u);
  EXPECT_EQ(f.last.preempted[0]->id, 3);
}

TEST(Scheduler, TenantsShareNoPrefixesWhateverTheirSalt) {
  Fixture f({}, 20);
  f.add_of("a", 1, Tokens(8, 1), 1);
  f.step();
  const Sequence& other = f.add_of("b", 2, Tokens(8, 1), 1);
  const Sequence& same = f.add_of("a", 3, Tokens(8, 1), 1);
  f.step();
  EXPECT_EQ(other.num_cached_tokens, 0);
  EXPECT_EQ(same.num_cached_tokens, 4);
}

TEST(Policies, AStaticBatchAdmitsNobodyFromItsFirstEndToItsLast) {
  for (const bool is_static : {true, false}) {
    Fixture f({.max_num_seqs = 2, .static_batches = is_static}, 100);
    f.add(1, {1, 1}, 1);
    f.add(2, {2, 2}, 3);
    f.add(3, {3, 3}, 2);
    EXPECT_EQ(f.step(), (Step{{1, 2}, {2, 2}}));
    EXPECT_EQ(f.step(), is_static ? (Step{{2, 1}}) : (Step{{2, 1}, {3, 2}}));
    EXPECT_EQ(f.step(), is_static ? (Step{{2, 1}}) : (Step{{2, 1}, {3, 1}}));
    EXPECT_EQ(f.step(), is_static ? (Step{{3, 2}}) : Step{});
  }
}

TEST(Policies, AStaticBatchThatWasPreemptedWholeIsAdmittedAgain) {
  Fixture f({.static_batches = true, .watermark = 0}, 3);
  f.add(1, {1, 1, 1, 1}, 8);
  f.add(2, {2, 2, 2, 2}, 8);
  int steps = 0;
  for (; f.scheduler.has_work() && steps < 100; ++steps) f.step();
  EXPECT_FALSE(f.scheduler.has_work());
  EXPECT_GT(f.scheduler.stats().num_preemptions, 0);
}

TEST(Policies, ReservedPlacesAreTakenAtAdmissionAndNeverGrow) {
  Fixture f({.reserved_tokens = 16, .watermark = 0}, 9);  // blocks of 4 tokens: room for two
  f.add(1, {1}, 15);
  f.add(2, {2, 2, 2, 2, 2}, 2);
  f.add(3, {3}, 1);
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 5}}));
  EXPECT_EQ(f.scheduler.stats().num_used_blocks, 8);
  EXPECT_DOUBLE_EQ(f.scheduler.stats().fragmentation, 1 - 8.0 / 32) << "8 tokens are known";
  EXPECT_EQ(f.step(), (Step{{1, 1}, {2, 1}}));
  EXPECT_EQ(f.step(), (Step{{1, 1}, {3, 1}})) << "the place of the one that ended";
  while (f.scheduler.has_work()) {
    f.step();
    EXPECT_EQ(f.scheduler.stats().num_used_blocks % 4, 0);
  }
  EXPECT_EQ(f.scheduler.stats().num_preemptions, 0);
}

}  // namespace
}  // namespace redline
