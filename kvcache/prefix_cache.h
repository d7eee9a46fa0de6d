// Finding blocks whose K and V are already known: full blocks, by all the tokens before them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvcache/block_allocator.h"

namespace redline {

/// The hash of a block of tokens after a prefix that hashed to `parent`. Only speed depends on its quality.
using PrefixHash = std::uint64_t (*)(std::uint64_t parent, std::span<const std::int32_t> tokens);
std::uint64_t prefix_hash(std::uint64_t parent, std::span<const std::int32_t> tokens);

/// Published blocks form trees: a block's parent holds the tokens before its own; a root starts a sequence
/// and belongs to one salt. A look-up compares parent, tokens and, at a root, salt, so equal hashes never
/// confuse two prefixes.
///
/// Whoever holds a published block holds its ancestors too, and releases them after it: hence the allocator
/// reclaims children before parents, and a published block's parent is always published.
class PrefixCache {
 public:
  /// Watches `allocator`, which must outlive it, for evictions.
  PrefixCache(BlockAllocator& allocator, std::int32_t block_size, PrefixHash hash = prefix_hash);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  std::int32_t block_size() const { return block_size_; }
  std::int32_t num_published() const { return static_cast<std::int32_t>(by_hash_.size()); }

  /// The published blocks that hold the longest prefix of `tokens`, whole blocks only. They stay findable
  /// until the next allocation; to keep them, share them.
  std::vector<BlockId> find(std::string_view salt, std::span<const std::int32_t> tokens) const;

  /// Makes `block`, whose K and V are written and which its caller references, findable as the one that holds
  /// `tokens` [block_size] after `parent` (published; kNoBlock at the start of a sequence). Returns the block
  /// that is: another one, where these contents were published before.
  BlockId publish(std::string_view salt, BlockId parent, std::span<const std::int32_t> tokens, BlockId block);

  /// The first violation found, or nothing: published blocks are retained, reachable and unique, and so are
  /// their parents.
  std::optional<std::string> integrity_error() const;

 private:
  struct Entry {  // of a published block
    bool published = false;
    BlockId parent = kNoBlock;
    std::uint64_t hash = 0;
    std::string salt;  // of a root
  };

  Entry& entry(BlockId block) { return entries_[static_cast<std::size_t>(block)]; }
  const Entry& entry(BlockId block) const { return entries_[static_cast<std::size_t>(block)]; }
  std::span<std::int32_t> tokens_of(BlockId block);
  std::span<const std::int32_t> tokens_of(BlockId block) const;
  std::uint64_t hash_of(std::string_view salt, BlockId parent, std::span<const std::int32_t> tokens) const;
  BlockId find_child(std::string_view salt, BlockId parent, std::uint64_t hash,
                     std::span<const std::int32_t> tokens) const;
  void forget(BlockId block);

  BlockAllocator& allocator_;
  const std::int32_t block_size_;
  const PrefixHash hash_;
  std::vector<Entry> entries_;        // [num_blocks]
  std::vector<std::int32_t> tokens_;  // [num_blocks][block_size]
  std::unordered_multimap<std::uint64_t, BlockId> by_hash_;
};

}  // namespace redline
