#include "kvcache/prefix_cache.h"

#include <algorithm>

#include "kernels/check.h"

namespace redline {
namespace {

// One round of a multiply and fold: the high half of the product depends on every bit of both.
constexpr std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  const auto product =
      static_cast<unsigned __int128>(state ^ 0x9e3779b97f4a7c15u) * (value ^ 0xe7037ed1a0b428dbu);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t salt_hash(std::string_view salt) {
  std::uint64_t hash = salt.size();
  for (const char c : salt) hash = mix(hash, static_cast<unsigned char>(c));
  return hash;
}

}  // namespace

std::uint64_t prefix_hash(std::uint64_t parent, std::span<const std::int32_t> tokens) {
  std::uint64_t hash = parent;
  for (const std::int32_t token : tokens) hash = mix(hash, static_cast<std::uint32_t>(token));
  return hash;
}

PrefixCache::PrefixCache(BlockAllocator& allocator, std::int32_t block_size, PrefixHash hash)
    : allocator_(allocator), block_size_(block_size), hash_(hash) {
  REDLINE_CHECK(block_size >= 1, "a block holds a token");
  entries_.resize(static_cast<std::size_t>(allocator.num_blocks()));
  tokens_.resize(entries_.size() * static_cast<std::size_t>(block_size));
  allocator_.on_eviction([this](BlockId block) { forget(block); });
}

std::vector<BlockId> PrefixCache::find(std::string_view salt, std::span<const std::int32_t> tokens) const {
  std::vector<BlockId> found;
  const auto block_tokens = static_cast<std::size_t>(block_size_);
  for (BlockId parent = kNoBlock; tokens.size() >= block_tokens; tokens = tokens.subspan(block_tokens)) {
    const auto own = tokens.first(block_tokens);
    parent = find_child(salt, parent, hash_of(salt, parent, own), own);
    if (parent == kNoBlock) break;
    found.push_back(parent);
  }
  return found;
}

BlockId PrefixCache::publish(std::string_view salt, BlockId parent, std::span<const std::int32_t> tokens,
                             BlockId block) {
  REDLINE_CHECK(std::ssize(tokens) == block_size_, "only full blocks are published");
  REDLINE_CHECK(parent == kNoBlock || entry(parent).published, "the parent is published first");
  REDLINE_CHECK(!entry(block).published, "a block is published once");
  const std::uint64_t hash = hash_of(salt, parent, tokens);
  const BlockId earlier = find_child(salt, parent, hash, tokens);
  if (earlier != kNoBlock) return earlier;
  allocator_.retain(block);
  entry(block) = {true, parent, hash, parent == kNoBlock ? std::string(salt) : std::string()};
  std::ranges::copy(tokens, tokens_of(block).begin());
  by_hash_.emplace(hash, block);
  return block;
}

std::optional<std::string> PrefixCache::integrity_error() const {
  std::size_t num_published = 0;
  for (BlockId block = 0; block < allocator_.num_blocks(); ++block) {
    const std::string name = "block " + std::to_string(block);
    const Entry& e = entry(block);
    if (e.published != allocator_.is_retained(block)) return name + " is not both published and retained";
    if (!e.published) continue;
    ++num_published;
    if (find_child(e.salt, e.parent, e.hash, tokens_of(block)) != block) return name + " cannot be found";
    if (e.parent == kNoBlock) continue;
    if (!entry(e.parent).published) return name + " is published and its parent is not";
    if (allocator_.num_references(e.parent) == 0 && allocator_.num_references(block) > 0)
      return name + " is referenced and its parent is not";
  }
  if (num_published != by_hash_.size())
    return std::to_string(num_published) + " blocks published, " + std::to_string(by_hash_.size()) + " known";
  return std::nullopt;
}

std::span<std::int32_t> PrefixCache::tokens_of(BlockId block) {
  const auto size = static_cast<std::size_t>(block_size_);
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * size, size);
}

std::span<const std::int32_t> PrefixCache::tokens_of(BlockId block) const {
  const auto size = static_cast<std::size_t>(block_size_);
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * size, size);
}

std::uint64_t PrefixCache::hash_of(std::string_view salt, BlockId parent,
                                   std::span<const std::int32_t> tokens) const {
  return hash_(parent == kNoBlock ? salt_hash(salt) : entry(parent).hash, tokens);
}

BlockId PrefixCache::find_child(std::string_view salt, BlockId parent, std::uint64_t hash,
                                std::span<const std::int32_t> tokens) const {
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto candidate = first; candidate != last; ++candidate) {
    const Entry& e = entry(candidate->second);
    if (e.parent == parent && (parent != kNoBlock || e.salt == salt) &&
        std::ranges::equal(tokens_of(candidate->second), tokens))
      return candidate->second;
  }
  return kNoBlock;
}

void PrefixCache::forget(BlockId block) {
  const auto [first, last] = by_hash_.equal_range(entry(block).hash);
  by_hash_.erase(std::find_if(first, last, [block](const auto& known) { return known.second == block; }));
  entry(block) = {};
}

}  // namespace redline
