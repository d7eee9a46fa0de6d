#include "kvcache/block_allocator.h"

#include "kernels/check.h"

namespace redline {

BlockAllocator::BlockAllocator(std::int32_t num_blocks) {
  REDLINE_CHECK(num_blocks >= 2, "a pool needs the trash block and one more");
  blocks_.resize(static_cast<std::size_t>(num_blocks));
  for (BlockId block = kFirstBlock; block < num_blocks; ++block) insert_free(block, kTrashBlock);
}

std::optional<BlockId> BlockAllocator::allocate() {
  const BlockId block = at(kTrashBlock).next;
  if (block == kTrashBlock) return std::nullopt;
  remove_free(block);
  at(block).num_references = 1;
  if (at(block).retained) {
    at(block).retained = false;
    if (evicted_) evicted_(block);
  }
  return block;
}

void BlockAllocator::share(BlockId block) {
  Block& b = at(block);
  REDLINE_CHECK(b.num_references > 0 || b.retained, "a block to share has references or is retained");
  if (b.num_references++ == 0) remove_free(block);
}

void BlockAllocator::release(BlockId block) {
  Block& b = at(block);
  REDLINE_CHECK(b.num_references > 0, "a block to release has references");
  if (--b.num_references > 0) return;
  insert_free(block, b.retained ? kTrashBlock : at(kTrashBlock).next);
}

void BlockAllocator::retain(BlockId block) {
  REDLINE_CHECK(at(block).num_references > 0, "a block to retain has references");
  at(block).retained = true;
}

std::optional<std::string> BlockAllocator::integrity_error() const {
  std::vector<bool> is_free(blocks_.size(), false);
  std::int32_t count = 0;
  bool retained = false;
  for (BlockId block = at(kTrashBlock).next; block != kTrashBlock; block = at(block).next) {
    const std::string name = "block " + std::to_string(block);
    if (is_free[static_cast<std::size_t>(block)]) return name + " is on the free list twice";
    is_free[static_cast<std::size_t>(block)] = true;
    ++count;
    if (at(at(block).next).previous != block) return name + " is not its successor's predecessor";
    if (retained && !at(block).retained) return name + " has nothing to lose but stands behind one that has";
    retained = at(block).retained;
  }
  if (count != num_free_)
    return std::to_string(count) + " blocks on the free list, counted as " + std::to_string(num_free_);
  for (BlockId block = kFirstBlock; block < num_blocks(); ++block)
    if ((at(block).num_references == 0) != is_free[static_cast<std::size_t>(block)])
      return "block " + std::to_string(block) + " has " + std::to_string(at(block).num_references) +
             " references and is " + (is_free[static_cast<std::size_t>(block)] ? "free" : "not free");
  return std::nullopt;
}

const BlockAllocator::Block& BlockAllocator::at(BlockId block) const {
  REDLINE_CHECK(block >= 0 && block < num_blocks(), "a block of the pool");
  return blocks_[static_cast<std::size_t>(block)];
}

void BlockAllocator::insert_free(BlockId block, BlockId before) {
  const BlockId previous = at(before).previous;
  at(block).previous = previous;
  at(block).next = before;
  at(previous).next = block;
  at(before).previous = block;
  ++num_free_;
}

void BlockAllocator::remove_free(BlockId block) {
  at(at(block).previous).next = at(block).next;
  at(at(block).next).previous = at(block).previous;
  --num_free_;
}

}  // namespace redline
