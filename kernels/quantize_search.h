// Scales and minima that fit a group of numbers: what quantisers of types with groups search for.
#pragma once

#include <algorithm>
#include <cmath>

namespace redline {

/// Below this a group counts as zeros: no type's scale reaches as low.
inline constexpr float kNoScale = 1e-20F;

/// x rounded to the nearest whole number within [low, high], ties to even; what is not a number becomes
/// `low`. Requires bounds of a few thousand at most.
inline float nearest_code(float x, int low, int high) {
  constexpr float kWhole = 0x1.8p23F;  // the last bit of sums with it is worth 1
  return std::min(std::max(static_cast<float>(low), x), static_cast<float>(high)) + kWhole - kWhole;
}

/// 1 / d, or 0 where that is not finite: then a block's values vanish at its scale's precision.
inline float reciprocal(float d) {
  const float r = 1.0F / d;
  return std::abs(r) <= 0x1.fffffep127F ? r : 0.0F;
}

/// The index of the value nearest to x among kIq4Values.
int nearest_iq4(float x);

/// The scale s for which sum (x - s q)^2 is smallest, q being x[0 .. n) rounded to codes in [low, high]: the
/// least squares' solution for the best of some roundings near that which takes the furthest x to `low`. It
/// may be negative; it is 0 where all x are, and infinite or no number where an x is. Requires low < 0.
float fit_scale(const float* x, int n, int low, int high);
/// The same where q is among kIq4Values.
float fit_table_scale(const float* x, int n);

struct ScaleAndMinimum {
  float scale = 0.0F, minimum = 0.0F;  // both at least 0
};
/// The same for x ~ scale q - minimum with codes in [0, high]. Requires n <= 32.
ScaleAndMinimum fit_scale_and_minimum(const float* x, int n, int high);

}  // namespace redline
