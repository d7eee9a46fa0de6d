// Drawing a token from logits by its probability.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace redline {

/// Which tokens may be drawn: the top_k likeliest, of these the smallest set that holds top_p of their
/// probability, and none below min_p of the likeliest one's. Ties fall to the lower id.
struct DrawLimits {
  float temperature = 1;   // > 0
  std::int32_t top_k = 0;  // <= 0: all
  float top_p = 1, min_p = 0;
};

/// A token with probability proportional to exp(logit / temperature) among those that the limits leave, as
/// `uniform`, [0, 1), says: the place at which the running sum of probabilities, in order of ids, passes it.
/// Requires a finite largest logit `best`, and no NaN. Weights are floats, exact to 2^-23 relative; below
/// exp(-42) of the likeliest they are zero. Time grows with the vocabulary's size, never faster.
std::int32_t draw(std::span<const float> logits, float best, const DrawLimits& limits, double uniform);

/// The `count` largest, best first, ties by id; -infinity counts as absent.
std::vector<std::int32_t> likeliest(std::span<const float> logits, std::size_t count);

}  // namespace redline
