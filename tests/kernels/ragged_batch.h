// Ragged batches for tests: a step's geometry from a list of sequences, with shuffled cache blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/batch.h"

namespace redline {

/// What one sequence brings to the step.
struct RaggedSequence {
  int num_cached = 0;
  int num_new = 1;
  int num_recomputed = 0;
  int num_logit_rows = 1;  // of its last tokens
  Phase phase = Phase::kPrefill;
};

/// Owns the arrays of a BatchView. Every sequence has blocks of its own, in random order, with a few blocks
/// left that nobody uses.
class RaggedBatch {
 public:
  RaggedBatch(const std::vector<RaggedSequence>& sequences, int block_size, int vocabulary,
              std::mt19937& random) {
    std::int32_t num_tokens = 0;
    for (const RaggedSequence& s : sequences) {
      const int length = s.num_cached + s.num_new;
      work_.push_back({.query_start = num_tokens,
                       .num_new = s.num_new,
                       .num_cached = s.num_cached,
                       .num_recomputed = s.num_recomputed,
                       .num_cached_unique = s.num_cached,
                       .num_logit_rows = s.num_logit_rows,
                       .table_start = static_cast<std::int32_t>(tables_.size()),
                       .phase = s.phase});
      tables_.resize(tables_.size() + static_cast<std::size_t>((length + block_size - 1) / block_size));
      for (int i = 0; i < s.num_new; ++i) {
        token_ids_.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocabulary)));
        positions_.push_back(s.num_cached + i);
        if (i >= s.num_new - s.num_logit_rows) logit_rows_.push_back(num_tokens + i);
      }
      num_tokens += s.num_new;
    }
    num_blocks_ = static_cast<std::int32_t>(tables_.size()) + 3;
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(num_blocks_));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    std::copy_n(blocks.begin(), tables_.size(), tables_.begin());
    set_slots(block_size);
  }

  /// Makes sequence `reader` read its first `count` blocks from `owner`'s; neither may write them.
  void share_blocks(std::size_t reader, std::size_t owner, int count, int block_size) {
    std::copy_n(tables_.begin() + work_[owner].table_start, count,
                tables_.begin() + work_[reader].table_start);
    set_slots(block_size);
  }

  std::int32_t num_blocks() const { return num_blocks_; }
  BatchView view() const { return {work_, token_ids_, positions_, slots_, tables_, logit_rows_}; }

 private:
  void set_slots(int block_size) {
    slots_.clear();
    for (const SequenceWork& s : work_)
      for (int i = 0; i < s.num_new; ++i) {
        const int position = s.num_cached + i;
        const std::int64_t block = tables_[static_cast<std::size_t>(s.table_start + position / block_size)];
        slots_.push_back(block * block_size + position % block_size);
      }
  }

  std::vector<SequenceWork> work_;
  std::vector<std::int32_t> token_ids_, positions_, tables_, logit_rows_;
  std::vector<std::int64_t> slots_;
  std::int32_t num_blocks_ = 0;
};

/// `count` normal numbers.
inline std::vector<float> random_floats(std::size_t count, std::mt19937& random, float scale = 1) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& x : values) x = normal(random);
  return values;
}

}  // namespace redline
