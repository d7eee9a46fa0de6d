#include "kvcache/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <utility>

namespace redline {
namespace {

using Tokens = std::vector<std::int32_t>;

std::uint64_t constant_hash(std::uint64_t, std::span<const std::int32_t>) { return 7; }
std::uint64_t two_bit_hash(std::uint64_t parent, std::span<const std::int32_t> tokens) {
  return prefix_hash(parent, tokens) & 3;
}

TEST(PrefixCache, FindsTheLongestPublishedPrefixInWholeBlocks) {
  BlockAllocator blocks(8);
  PrefixCache cache(blocks, 2);
  const BlockId a = *blocks.allocate(), b = *blocks.allocate();
  EXPECT_EQ(cache.publish("", kNoBlock, Tokens{1, 2}, a), a);
  EXPECT_EQ(cache.publish("", a, Tokens{3, 4}, b), b);
  EXPECT_EQ(cache.find("", Tokens{1, 2, 3, 4, 5}), (std::vector{a, b}));
  EXPECT_EQ(cache.find("", Tokens{1, 2, 3}), std::vector{a});
  EXPECT_EQ(cache.find("", Tokens{1, 2, 4, 4}), std::vector{a});
  EXPECT_TRUE(cache.find("", Tokens{1}).empty());
  EXPECT_TRUE(cache.find("", Tokens{3, 4}).empty());
}

TEST(PrefixCache, KeepsSaltsApartAtTheRoot) {
  for (const PrefixHash hash : {&prefix_hash, &constant_hash}) {
    BlockAllocator blocks(8);
    PrefixCache cache(blocks, 1, hash);
    const BlockId a = *blocks.allocate(), b = *blocks.allocate();
    cache.publish("tenant 1", kNoBlock, Tokens{5}, a);
    EXPECT_TRUE(cache.find("tenant 2", Tokens{5}).empty());
    EXPECT_TRUE(cache.find("", Tokens{5}).empty());
    EXPECT_EQ(cache.publish("tenant 2", kNoBlock, Tokens{5}, b), b);
    EXPECT_EQ(cache.find("tenant 1", Tokens{5}), std::vector{a});
    EXPECT_EQ(cache.find("tenant 2", Tokens{5}), std::vector{b});
  }
}

TEST(PrefixCache, EqualTokensAfterDifferentPrefixesAreDifferentBlocksThoughHashesCollide) {
  BlockAllocator blocks(8);
  PrefixCache cache(blocks, 1, constant_hash);
  const BlockId a = *blocks.allocate(), b = *blocks.allocate(), after_a = *blocks.allocate();
  cache.publish("", kNoBlock, Tokens{1}, a);
  cache.publish("", kNoBlock, Tokens{2}, b);
  cache.publish("", a, Tokens{9}, after_a);
  EXPECT_EQ(cache.find("", Tokens{1, 9}), (std::vector{a, after_a}));
  EXPECT_EQ(cache.find("", Tokens{2, 9}), std::vector{b});
}

TEST(PrefixCache, PublishingKnownContentsNamesTheBlockThatHoldsThem) {
  BlockAllocator blocks(4);
  PrefixCache cache(blocks, 1);
  const BlockId first = *blocks.allocate(), second = *blocks.allocate();
  EXPECT_EQ(cache.publish("", kNoBlock, Tokens{1}, first), first);
  EXPECT_EQ(cache.publish("", kNoBlock, Tokens{1}, second), first);
  EXPECT_EQ(cache.num_published(), 1);
  EXPECT_FALSE(blocks.is_retained(second));
}

TEST(PrefixCache, ForgetsABlockOnceItIsHandedOutAgain) {
  BlockAllocator blocks(2);
  PrefixCache cache(blocks, 1);
  const BlockId block = *blocks.allocate();
  cache.publish("", kNoBlock, Tokens{1}, block);
  blocks.release(block);
  EXPECT_EQ(cache.find("", Tokens{1}), std::vector{block});
  EXPECT_EQ(blocks.allocate(), block);
  EXPECT_TRUE(cache.find("", Tokens{1}).empty());
  EXPECT_EQ(cache.num_published(), 0);
}

// Holders publish, share and release whole chains, as the scheduler does; a model remembers which prefix each
// block was published for.
TEST(PrefixCache, AgreesWithAModelUnderRandomUseWhateverTheHash) {
  using Prefix = std::pair<std::string, Tokens>;
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const int block_size = 1 + below(3);
    BlockAllocator blocks(3 + below(14));
    const PrefixHash hashes[] = {prefix_hash, two_bit_hash, constant_hash};
    PrefixCache cache(blocks, block_size, hashes[seed % 3]);
    std::map<BlockId, Prefix> published;
    std::vector<std::vector<BlockId>> holders;
    for (int step = 0; step < 100; ++step) {
      if (!holders.empty() && below(2) == 0) {
        const int victim = below(static_cast<int>(holders.size()));
        auto& chain = holders[static_cast<std::size_t>(victim)];
        for (auto block = chain.rbegin(); block != chain.rend(); ++block) blocks.release(*block);
        holders.erase(holders.begin() + victim);
      } else {
        const std::string salt = below(4) == 0 ? "b" : "a";
        Tokens tokens;
        for (int i = below(5 * block_size); i > 0; --i) tokens.push_back(below(2));
        const auto prefix = [&](std::size_t num_blocks) {
          const auto n = static_cast<std::ptrdiff_t>(num_blocks) * block_size;
          return Prefix(salt, Tokens(tokens.begin(), tokens.begin() + n));
        };
        std::erase_if(published, [&](const auto& entry) { return !blocks.is_retained(entry.first); });
        std::set<Prefix> known;
        for (const auto& [block, p] : published) ASSERT_TRUE(known.insert(p).second);
        std::vector<BlockId> chain = cache.find(salt, tokens);
        for (std::size_t i = 0; i < chain.size(); ++i) ASSERT_EQ(published.at(chain[i]), prefix(i + 1));
        const std::size_t num_full = tokens.size() / static_cast<std::size_t>(block_size);
        ASSERT_FALSE(chain.size() < num_full && known.contains(prefix(chain.size() + 1)));
        for (const BlockId block : chain) blocks.share(block);
        while (chain.size() < num_full) {
          const auto block = blocks.allocate();
          if (!block) break;
          published.erase(*block);
          const auto own = std::span(tokens).subspan(chain.size() * static_cast<std::size_t>(block_size),
                                                     static_cast<std::size_t>(block_size));
          ASSERT_EQ(cache.publish(salt, chain.empty() ? kNoBlock : chain.back(), own, *block), *block);
          chain.push_back(*block);
          published[*block] = prefix(chain.size());
        }
        holders.push_back(chain);
      }
      ASSERT_EQ(blocks.integrity_error(), std::nullopt);
      ASSERT_EQ(cache.integrity_error(), std::nullopt);
    }
  }
}

}  // namespace
}  // namespace redline
