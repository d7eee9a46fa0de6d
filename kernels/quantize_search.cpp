#include "kernels/quantize_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/convert.h"

namespace redline {
namespace {

// Candidates lie up to kReach tenths of a step of the furthest value's code apart from it.
constexpr int kReach = 9;
constexpr int kMostElements = 32;

template <class Nearest>
float fit(const float* x, int n, float end, Nearest&& nearest) {
  float furthest = 0.0F;
  for (int i = 0; i < n; ++i)
    if (!(std::abs(x[i]) <= std::abs(furthest))) furthest = x[i];
  if (!std::isfinite(furthest)) return furthest;
  if (std::abs(furthest) < kNoScale) return 0.0F;
  float best_gain = 0.0F, best = furthest / end;
  for (int step = -kReach; step <= kReach; ++step) {
    const float inverse = (end + 0.1F * static_cast<float>(step)) / furthest;
    float xq = 0.0F, qq = 0.0F;
    for (int i = 0; i < n; ++i) {
      const float q = nearest(x[i] * inverse);
      xq += x[i] * q;
      qq += q * q;
    }
    // With the best scale for these codes, xq / qq, the squared error is the squared x less this.
    if (qq > 0.0F && xq * xq > best_gain * qq) {
      best_gain = xq * xq / qq;
      best = xq / qq;
    }
  }
  return best;
}

}  // namespace

float fit_scale(const float* x, int n, int low, int high) {
  return fit(x, n, static_cast<float>(low), [low, high](float v) { return nearest_code(v, low, high); });
}

float fit_table_scale(const float* x, int n) {
  return fit(x, n, static_cast<float>(kIq4Values[0]),
             [](float v) { return static_cast<float>(kIq4Values[nearest_iq4(v)]); });
}

ScaleAndMinimum fit_scale_and_minimum(const float* x, int n, int high) {
  float low = 0.0F, top = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    top = std::max(top, x[i]);
  }
  const float range = top - low;
  if (!std::isfinite(range)) return {range, 0.0F};
  if (range < kNoScale) return {0.0F, -low};
  float best_error = std::numeric_limits<float>::infinity();
  ScaleAndMinimum best{range / static_cast<float>(high), -low};
  for (int step = -kReach; step <= kReach; ++step) {
    const float inverse = (static_cast<float>(high) + 0.1F * static_cast<float>(step)) / range;
    float q[kMostElements], sum_q = 0.0F, sum_x = 0.0F, qq = 0.0F, xq = 0.0F;
    for (int i = 0; i < n; ++i) {
      q[i] = nearest_code((x[i] - low) * inverse, 0, high);
      sum_q += q[i];
      sum_x += x[i];
      qq += q[i] * q[i];
      xq += x[i] * q[i];
    }
    // The least squares' scale and minimum for these codes; minima below 0 cannot be stored.
    const auto count = static_cast<float>(n);
    const float determinant = count * qq - sum_q * sum_q;
    if (!(determinant > 0.0F)) continue;
    ScaleAndMinimum candidate;
    candidate.scale = (count * xq - sum_x * sum_q) / determinant;
    candidate.minimum = (candidate.scale * sum_q - sum_x) / count;
    if (candidate.minimum < 0.0F) candidate = {xq / qq, 0.0F};
    float error = 0.0F;
    for (int i = 0; i < n; ++i) {
      const float difference = x[i] - (candidate.scale * q[i] - candidate.minimum);
      error += difference * difference;
    }
    if (candidate.scale > 0.0F && error < best_error) {
      best_error = error;
      best = candidate;
    }
  }
  return best;
}

int nearest_iq4(float x) {
  int index = 0;
  for (int i = 0; i < 15; ++i)
    index += x > 0.5F * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]) ? 1 : 0;
  return index;
}

}  // namespace redline
