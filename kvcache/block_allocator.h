// Which blocks of the cache are in use, by how many block tables, and which to hand out next.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace redline {

/// Index of a block in the cache.
using BlockId = std::int32_t;

/// Belongs to nobody: rows that only pad a batch write here. Never allocated.
inline constexpr BlockId kTrashBlock = 0;
inline constexpr BlockId kNoBlock = -1;

/// A fixed pool of reference-counted blocks. A block without references is free; a free block may be
/// *retained*, its contents being worth finding again. Blocks with nothing to lose are handed out first, then
/// the retained one that was released longest ago. Every operation takes constant time and no memory.
class BlockAllocator {
 public:
  /// Requires num_blocks >= 2: one of them is the trash block.
  explicit BlockAllocator(std::int32_t num_blocks);

  /// Called with a retained block at the moment that it is handed out for other contents.
  void on_eviction(std::function<void(BlockId)> callback) { evicted_ = std::move(callback); }

  /// A free block, now with one reference; nothing when there is none.
  std::optional<BlockId> allocate();
  /// One more reference to a block that has references or is retained.
  void share(BlockId block);
  /// One reference less. Requires at least one.
  void release(BlockId block);
  /// Whether the block's contents are to outlive its references. Requires a reference.
  void retain(BlockId block);

  /// Blocks that can be allocated at all.
  std::int32_t capacity() const { return static_cast<std::int32_t>(blocks_.size()) - kFirstBlock; }
  std::int32_t num_blocks() const { return capacity() + kFirstBlock; }
  /// Blocks that can be allocated now, retained ones included.
  std::int32_t num_free() const { return num_free_; }
  std::int32_t num_references(BlockId block) const { return at(block).num_references; }
  bool is_retained(BlockId block) const { return at(block).retained; }

  /// The first violation of conservation or order found, or nothing: each block is either referenced or on
  /// the free list once, and no retained block stands before one with nothing to lose.
  std::optional<std::string> integrity_error() const;

 private:
  static constexpr BlockId kFirstBlock = kTrashBlock + 1;

  struct Block {
    std::int32_t num_references = 0;
    bool retained = false;
    BlockId previous = kTrashBlock, next = kTrashBlock;  // on the free list
  };

  const Block& at(BlockId block) const;
  Block& at(BlockId block) { return const_cast<Block&>(std::as_const(*this).at(block)); }
  void insert_free(BlockId block, BlockId before);
  void remove_free(BlockId block);

  // The free list is a ring through the trash block: handed out from the front (its next), retained blocks
  // join at the back (its previous).
  std::vector<Block> blocks_;
  std::int32_t num_free_ = 0;
  std::function<void(BlockId)> evicted_;
};

}  // namespace redline
