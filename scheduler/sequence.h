// One answer being generated: its tokens, how far they are computed, and its blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvcache/block_table.h"

namespace redline {

using SequenceId = std::int64_t;
struct Tenant;

/// What the scheduler needs to know of a request.
struct SequenceSpec {
  SequenceId id = 0;                      // not in use by another sequence
  std::vector<std::int32_t> prompt = {};  // at least one token
  std::int32_t max_num_tokens = 0;        // prompt and generated together, more than the prompt
  std::int32_t n = 1;                     // answers: this sequence and the n - 1 to be forked from it
  std::int32_t priority = 0;              // lower runs first among the tenant's
  std::string tenant = {};                // whose it is
  std::string cache_salt = {};            // only a tenant's sequences of the same salt share cached prefixes
  bool use_prefix_cache = true;
  bool needs_prompt_logits = false;  // of each of its tokens; requires no prefix cache
};

enum class SequenceStatus : std::uint8_t { kWaiting, kRunning, kFinished };

/// Everybody reads, only the scheduler writes.
struct Sequence {
  SequenceId id = 0;
  std::vector<std::int32_t> tokens;  // prompt, then generated
  std::int32_t num_prompt_tokens = 0;
  std::int32_t max_num_tokens = 0;
  std::int32_t priority = 0;
  Tenant* tenant = nullptr;  // the scheduler's account
  std::string cache_salt;    // the tenant's name and the salt
  bool use_prefix_cache = true;
  bool needs_prompt_logits = false;
  std::optional<SequenceId> forked_from;

  // Order: see InOrder.
  std::int64_t rank = 0;
  std::int64_t serial = 0;

  SequenceStatus status = SequenceStatus::kWaiting;
  BlockTable blocks;                      // covers every known token while prefilling, else those computed;
                                          // kTrashBlock stands for those freed
  std::int32_t num_seats = 1;             // of max_num_seqs: its own and those of forks to come
  std::int32_t num_computed_tokens = 0;   // whose K and V are in the cache
  std::int32_t num_ever_computed = 0;     // the most that num_computed_tokens has been
  std::int32_t num_published_blocks = 0;  // leading blocks that the prefix cache knows
  std::int32_t num_passed_blocks = 0;     // leading blocks that the window has passed: freed unless published
  std::int32_t num_cached_tokens = 0;     // of the prompt, found in the prefix cache when first admitted
  std::int32_t num_preemptions = 0;

  std::int32_t num_tokens() const { return static_cast<std::int32_t>(tokens.size()); }
  /// Blocks given up because the window has passed them: those from num_published_blocks on.
  std::int32_t num_freed_blocks() const {
    return num_passed_blocks > num_published_blocks ? num_passed_blocks - num_published_blocks : 0;
  }
  /// Known tokens that remain to be computed.
  std::int32_t num_uncomputed() const { return num_tokens() - num_computed_tokens; }
};

}  // namespace redline
