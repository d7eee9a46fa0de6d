#include "kvcache/block_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

namespace redline {
namespace {

TEST(BlockAllocator, NeverHandsOutTheTrashBlock) {
  BlockAllocator blocks(4);
  EXPECT_EQ(blocks.capacity(), 3);
  std::set<BlockId> seen;
  while (const auto block = blocks.allocate()) EXPECT_TRUE(seen.insert(*block).second);
  EXPECT_EQ(seen, (std::set<BlockId>{1, 2, 3}));
  EXPECT_EQ(blocks.num_free(), 0);
}

TEST(BlockAllocator, ReclaimsEmptyBlocksFirstThenRetainedOnesByAge) {
  BlockAllocator blocks(5);
  std::vector<BlockId> evicted;
  blocks.on_eviction([&](BlockId block) { evicted.push_back(block); });
  std::vector<BlockId> held;
  for (int i = 0; i < 4; ++i) held.push_back(*blocks.allocate());
  blocks.retain(held[1]);
  blocks.retain(held[3]);
  for (const int i : {3, 0, 1, 2}) blocks.release(held[static_cast<std::size_t>(i)]);
  blocks.share(held[3]);  // found again: now the one released last
  blocks.release(held[3]);
  EXPECT_EQ(blocks.num_free(), 4);
  const std::set<BlockId> first = {*blocks.allocate(), *blocks.allocate()};
  EXPECT_EQ(first, (std::set<BlockId>{held[0], held[2]}));
  EXPECT_TRUE(evicted.empty());
  EXPECT_EQ(blocks.allocate(), held[1]);
  EXPECT_EQ(blocks.allocate(), held[3]);
  EXPECT_EQ(evicted, (std::vector<BlockId>{held[1], held[3]}));
  EXPECT_EQ(blocks.allocate(), std::nullopt);
}

TEST(BlockAllocator, ConservesBlocksUnderRandomOperations) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
    const auto num_blocks = static_cast<std::int32_t>(2 + below(12));
    BlockAllocator blocks(num_blocks);
    std::multiset<BlockId> references;
    std::deque<BlockId> retained;  // and free, oldest first
    std::set<BlockId> worth_keeping;
    blocks.on_eviction([&](BlockId block) {
      ASSERT_FALSE(retained.empty());
      ASSERT_EQ(block, retained.front());
      retained.pop_front();
      worth_keeping.erase(block);
    });
    for (int step = 0; step < 200; ++step) {
      const auto any_held = [&] {
        return *std::next(references.begin(), static_cast<std::ptrdiff_t>(below(references.size())));
      };
      switch (below(5)) {
        case 0:
        case 1: {
          const bool expected = std::set(references.begin(), references.end()).size() <
                                static_cast<std::size_t>(blocks.capacity());
          const auto block = blocks.allocate();
          ASSERT_EQ(block.has_value(), expected);
          if (!block) break;
          ASSERT_FALSE(references.contains(*block));
          references.insert(*block);
          break;
        }
        case 2:
          if (!retained.empty() && below(2) == 0) {
            const BlockId block = retained[below(retained.size())];
            std::erase(retained, block);
            blocks.share(block);
            references.insert(block);
          } else if (!references.empty()) {
            const BlockId block = any_held();
            blocks.share(block);
            references.insert(block);
          }
          break;
        case 3:
          if (references.empty()) break;
          blocks.retain(*worth_keeping.insert(any_held()).first);
          break;
        default: {
          if (references.empty()) break;
          const BlockId block = any_held();
          references.erase(references.find(block));
          blocks.release(block);
          if (!references.contains(block) && worth_keeping.contains(block)) retained.push_back(block);
        }
      }
      ASSERT_EQ(blocks.integrity_error(), std::nullopt);
      for (BlockId block = 1; block < num_blocks; ++block) {
        ASSERT_EQ(blocks.num_references(block), static_cast<std::int32_t>(references.count(block)));
        ASSERT_EQ(blocks.is_retained(block), worth_keeping.contains(block));
      }
      ASSERT_EQ(blocks.num_references(kTrashBlock), 0);
    }
  }
}

TEST(BlockAllocatorDeathTest, RefusesWhatWouldLoseABlock) {
  BlockAllocator blocks(3);
  EXPECT_DEATH(blocks.release(1), "CHECK failed");
  EXPECT_DEATH(blocks.share(1), "CHECK failed");
  EXPECT_DEATH(blocks.release(kTrashBlock), "CHECK failed");
  EXPECT_DEATH(blocks.release(3), "CHECK failed");
}

}  // namespace
}  // namespace redline
