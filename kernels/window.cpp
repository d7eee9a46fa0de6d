#include "kernels/window.h"

#include <unordered_map>

namespace redline {

std::vector<std::int64_t> unique_in_window(const BatchView& batch, std::int64_t window, int block_size) {
  std::vector<std::int64_t> unique;
  if (window == 0) {
    for (const SequenceWork& s : batch.sequences) unique.push_back(s.num_cached_unique);
    return unique;
  }
  // Of each block, the offsets read so far. A reader starts at its window's edge or at the block's, and all
  // read up to the block's last token: what they read together has no gap.
  struct Range {
    std::int64_t begin, end;
  };
  std::unordered_map<std::int32_t, Range> read;
  for (const SequenceWork& s : batch.sequences) {
    std::int64_t& count = unique.emplace_back(0);
    const std::int64_t first = s.num_cached - cached_in_window(s.num_cached, window);
    for (std::int64_t i = first / block_size; i * block_size < s.num_cached; ++i) {
      const std::int32_t block = batch.block_tables[static_cast<std::size_t>(s.table_start + i)];
      const Range own{std::max(first - i * block_size, std::int64_t{0}),
                      std::min(s.num_cached - i * block_size, std::int64_t{block_size})};
      const auto [entry, is_new] = read.try_emplace(block, own);
      Range& range = entry->second;
      if (is_new) {
        count += own.end - own.begin;
        continue;
      }
      const Range joined{std::min(range.begin, own.begin), std::max(range.end, own.end)};
      count += (joined.end - joined.begin) - (range.end - range.begin);
      range = joined;
    }
  }
  return unique;
}

}  // namespace redline
