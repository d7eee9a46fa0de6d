#include "engine/batch.h"

#include <algorithm>

#include "kernels/check.h"

namespace redline {

Batch::Batch(std::int32_t block_size, std::int32_t num_blocks)
    : block_size_(block_size), block_seen_(static_cast<std::size_t>(num_blocks)) {
  clear();
}

void Batch::clear() {
  sequences_.clear();
  token_ids_.clear();
  positions_.clear();
  block_tables_.clear();
  logit_rows_.clear();
  slots_.clear();
  if (++generation_ == 0) {
    std::fill(block_seen_.begin(), block_seen_.end(), 0u);
    generation_ = 1;
  }
}

void Batch::add(const BatchEntry& entry) {
  const auto num_new = static_cast<std::int32_t>(entry.tokens.size());
  const std::int32_t num_known = entry.num_cached + num_new;
  const std::int32_t num_blocks = num_blocks_for(num_known, block_size_);
  REDLINE_CHECK(num_new > 0 && static_cast<std::size_t>(num_blocks) <= entry.blocks->size(),
                "an entry computes tokens, and has blocks for them");
  SequenceWork work;
  work.query_start = static_cast<std::int32_t>(token_ids_.size());
  work.num_new = num_new;
  work.num_cached = entry.num_cached;
  work.num_recomputed = entry.num_recomputed;
  work.table_start = static_cast<std::int32_t>(block_tables_.size());
  work.phase = entry.phase;
  work.num_logit_rows = entry.logits == LogitRows::kNone   ? 0
                        : entry.logits == LogitRows::kLast ? 1
                                                           : num_new - entry.num_recomputed;

  for (std::int32_t b = 0; b < num_blocks; ++b) {
    const BlockId block = (*entry.blocks)[static_cast<std::size_t>(b)];
    block_tables_.push_back(block);
    const std::int32_t cached = std::min(block_size_, entry.num_cached - b * block_size_);
    std::uint32_t& seen = block_seen_[static_cast<std::size_t>(block)];
    if (block != kTrashBlock && cached > 0 && seen != generation_) {
      seen = generation_;
      work.num_cached_unique += cached;
    }
  }
  for (std::int32_t i = 0; i < num_new; ++i) {
    token_ids_.push_back(entry.tokens[static_cast<std::size_t>(i)]);
    positions_.push_back(entry.num_cached + i);
    slots_.push_back(slot_of(*entry.blocks, entry.num_cached + i, block_size_));
    if (i >= num_new - work.num_logit_rows) logit_rows_.push_back(work.query_start + i);
  }
  sequences_.push_back(work);
}

BatchView Batch::view() const {
  return {sequences_, token_ids_, positions_, slots_, block_tables_, logit_rows_};
}

}  // namespace redline
