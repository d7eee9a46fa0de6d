// What a causal mask lets through, with and without a sliding window of the last W keys (W 0: none).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/batch.h"

namespace redline {

/// (query, key) pairs of the tokens at positions [0, n): the sum of min(i, W) for i = 1 .. n.
constexpr std::int64_t pairs_up_to(std::int64_t n, std::int64_t window = 0) {
  if (window == 0 || n <= window) return n * (n + 1) / 2;
  return window * (window + 1) / 2 + (n - window) * window;
}

/// Pairs of `num_new` tokens after `num_cached`: c p + c (c + 1) / 2 without a window. Telescopes over
/// chunks.
constexpr std::int64_t causal_pairs(std::int64_t num_cached, std::int64_t num_new, std::int64_t window = 0) {
  return pairs_up_to(num_cached + num_new, window) - pairs_up_to(num_cached, window);
}

/// Of `num_cached` tokens, those that new ones read: the last W.
constexpr std::int64_t cached_in_window(std::int64_t num_cached, std::int64_t window) {
  return window == 0 ? num_cached : std::min(num_cached, window);
}

/// By sequence of `batch`: its cached tokens in the window that no earlier sequence of the step reads.
std::vector<std::int64_t> unique_in_window(const BatchView& batch, std::int64_t window, int block_size);

}  // namespace redline
