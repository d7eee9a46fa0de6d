// Flattens the sequences of a step into the arrays that operations read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "kvcache/block_table.h"

namespace redline {

/// Of which tokens logits are computed; kAll: but for those that are recomputed.
enum class LogitRows : std::uint8_t { kNone, kLast, kAll };

/// One sequence's part in a step: `tokens` are those computed now, the first at position num_cached.
struct BatchEntry {
  std::span<const std::int32_t> tokens;
  std::int32_t num_cached = 0;
  std::int32_t num_recomputed = 0;
  const BlockTable* blocks = nullptr;  // hold num_cached + tokens.size() tokens at least, but for those freed
  Phase phase = Phase::kPrefill;
  LogitRows logits = LogitRows::kNone;
};

/// Reused from step to step, so that a step allocates nothing once its arrays have grown.
class Batch {
 public:
  Batch(std::int32_t block_size, std::int32_t num_blocks);

  void clear();
  void add(const BatchEntry& entry);
  /// Valid until the next clear or add.
  BatchView view() const;

 private:
  std::int32_t block_size_;
  std::vector<SequenceWork> sequences_;
  std::vector<std::int32_t> token_ids_, positions_, block_tables_, logit_rows_;
  std::vector<std::int64_t> slots_;
  // Which blocks this step has already counted as read: block_seen_[b] == generation_.
  std::vector<std::uint32_t> block_seen_;
  std::uint32_t generation_ = 0;
};

}  // namespace redline
