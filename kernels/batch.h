// The geometry of one step, flattened, as every operation sees it. Built by engine/batch.h, passed, never
// global.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace redline {

/// Decode: the sequence computes one token whose predecessor was sampled. Everything else is prefill.
enum class Phase : std::uint8_t { kPrefill, kDecode };
inline constexpr int kNumPhases = 2;
inline constexpr std::array<Phase, kNumPhases> kAllPhases = {Phase::kPrefill, Phase::kDecode};
inline constexpr const char* kPhaseNames[kNumPhases] = {"prefill", "decode"};

/// One sequence's share of a step: rows [query_start, query_start + num_new) of the token rows are its tokens
/// at positions num_cached, num_cached + 1, ... Its cache blocks are block_tables[table_start .. table_start
/// + ceil((num_cached + num_new) / block_size)); a block that no layer's window reaches any more may be block
/// 0, whose contents mean nothing.
struct SequenceWork {
  std::int32_t query_start = 0;
  std::int32_t num_new = 0;            // c_s: tokens computed now, >= 1
  std::int32_t num_cached = 0;         // p_s: tokens already in the cache
  std::int32_t num_recomputed = 0;     // the leading tokens of num_new that were computed before and lost
  std::int32_t num_cached_unique = 0;  // of p_s, tokens in blocks that no earlier sequence of this step reads
  std::int32_t num_logit_rows = 0;
  std::int32_t table_start = 0;
  Phase phase = Phase::kPrefill;
};

/// Copy cache block `source` to `target` in every layer (copy-on-write).
struct BlockCopy {
  std::int32_t source = 0;
  std::int32_t target = 0;
};

/// Non-owning. T token rows, S sequences in row order, R logit rows (ascending indices into the token rows).
struct BatchView {
  std::span<const SequenceWork> sequences;     // [S]
  std::span<const std::int32_t> token_ids;     // [T]
  std::span<const std::int32_t> positions;     // [T]
  std::span<const std::int64_t> slots;         // [T] cache slot that token t's K and V go to
  std::span<const std::int32_t> block_tables;  // concatenated, see SequenceWork::table_start
  std::span<const std::int32_t> logit_rows;    // [R]

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(token_ids.size()); }
  std::int64_t num_logit_rows() const { return static_cast<std::int64_t>(logit_rows.size()); }
};

}  // namespace redline
