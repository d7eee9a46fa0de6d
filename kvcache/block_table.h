// A sequence's blocks, in the order of its tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "kvcache/block_allocator.h"

namespace redline {

/// Blocks that `num_tokens` tokens take.
constexpr std::int32_t num_blocks_for(std::int32_t num_tokens, std::int32_t block_size) {
  return num_tokens / block_size + (num_tokens % block_size != 0);
}

/// Block i holds the tokens at positions [i * block_size, (i + 1) * block_size); kTrashBlock where they are
/// needed no more.
using BlockTable = std::vector<BlockId>;

/// The cache slot of the token at `position`, which must lie in the table.
inline std::int64_t slot_of(const BlockTable& table, std::int32_t position, std::int32_t block_size) {
  return std::int64_t{table[static_cast<std::size_t>(position / block_size)]} * block_size +
         position % block_size;
}

}  // namespace redline
