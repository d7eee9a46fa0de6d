#include "engine/draw.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace redline {
namespace {

constexpr std::size_t kLanes = 16, kBlock = 256;
constexpr float kLeast = -42.0f;  // exponents below count for nothing

struct Candidate {
  float logit, weight;
  std::int32_t token;
};
bool goes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// Kept by each thread from draw to draw.
struct Scratch {
  std::vector<float> weights;  // by token; 0: cannot be drawn
  std::vector<double> sums;    // of each kBlock of them
  std::vector<Candidate> candidates;
};
Scratch& scratch() {
  thread_local Scratch scratch;
  return scratch;
}

// e^x for x in [-87, 0], to 8e-8 relative: 2^n e^r with n the integer nearest to x / ln 2, and a polynomial
// (Cephes' expf) for e^r. Without branches, so that loops become vectors.
inline float exp_of(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the lowest bits
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const auto exponent = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) << 23);
  return std::bit_cast<float>(std::bit_cast<std::int32_t>(p) + exponent);
}

void weigh(std::span<const float> logits, float best, const DrawLimits& limits, std::vector<float>& weights) {
  const float least = limits.min_p > 0 ? std::max(std::log(limits.min_p), kLeast) : kLeast;
  weights.resize(logits.size());
  const float* in = logits.data();
  float* out = weights.data();
  const float temperature = limits.temperature;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float x = (in[i] - best) / temperature;  // no reciprocal: it could be infinite
    const float weight = exp_of(x < kLeast ? kLeast : x);
    out[i] = x >= least ? weight : 0.0f;
  }
}

// Sums the blocks; returns the sum of all.
double sum_blocks(std::span<const float> weights, std::vector<double>& sums) {
  sums.clear();
  double total = 0;
  for (std::size_t begin = 0; begin < weights.size(); begin += kBlock) {
    const auto block = weights.subspan(begin, std::min(kBlock, weights.size() - begin));
    float lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes)
      for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += block[i + j];
    double sum = 0;
    for (const float lane : lanes) sum += lane;
    for (; i < block.size(); ++i) sum += block[i];
    sums.push_back(sum);
    total += sum;
  }
  return total;
}

// The `count` that go before all others, in any order. Twice as many are collected, then halved: what is not
// among the best so far costs one comparison.
void select_likeliest(std::span<const float> logits, std::span<const float> weights, std::size_t count,
                      std::vector<Candidate>& best) {
  best.clear();
  float least = -std::numeric_limits<float>::infinity();
  const auto halve = [&] {
    std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count - 1), best.end(),
                     goes_before);
    best.resize(count);
    least = best.back().logit;
  };
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > least)) continue;
    const float weight = weights.empty() ? 1.0f : weights[i];
    if (weight == 0) continue;
    best.push_back({logits[i], weight, static_cast<std::int32_t>(i)});
    if (best.size() == 2 * count) halve();
  }
  if (best.size() > count) halve();
}

// Keeps the smallest set that goes before all others and weighs at least `needed`, or all: quickselect by
// weight.
void select_weight(double needed, std::vector<Candidate>& candidates) {
  auto begin = candidates.begin(), end = candidates.end();
  double sum = 0;  // of what goes before `begin`
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, goes_before);
    double half = 0;
    for (auto each = begin; each != middle; ++each) half += each->weight;
    if (sum + half >= needed) {
      end = middle;
    } else {
      sum += half;
      begin = middle;
    }
  }
  candidates.erase(end, candidates.end());
}

// All others can no more be drawn.
void keep_only(std::span<const Candidate> candidates, std::vector<float>& weights) {
  std::ranges::fill(weights, 0.0f);
  for (const Candidate& each : candidates) weights[static_cast<std::size_t>(each.token)] = each.weight;
}

std::int32_t pick(std::span<const float> weights, std::span<const double> sums, double target) {
  std::size_t block = 0, last = 0;  // the last block with any weight, should rounding pass the end
  for (; block < sums.size(); ++block) {
    if (sums[block] == 0) continue;
    last = block;
    if (target < sums[block]) break;
    target -= sums[block];
  }
  std::size_t token = 0;
  for (std::size_t i = last * kBlock; i < std::min((last + 1) * kBlock, weights.size()); ++i) {
    if (weights[i] == 0) continue;
    token = i;
    target -= weights[i];
    if (block < sums.size() && target < 0) break;
  }
  return static_cast<std::int32_t>(token);
}

}  // namespace

std::int32_t draw(std::span<const float> logits, float best, const DrawLimits& limits, double uniform) {
  auto& [weights, sums, candidates] = scratch();
  weigh(logits, best, limits, weights);
  const bool by_rank = limits.top_k > 0 && static_cast<std::size_t>(limits.top_k) < logits.size();
  double total = 0;
  if (by_rank) {
    select_likeliest(logits, weights, static_cast<std::size_t>(limits.top_k), candidates);
    for (const Candidate& each : candidates) total += each.weight;
  } else {
    total = sum_blocks(weights, sums);
  }
  if (limits.top_p < 1) {
    if (!by_rank) {
      // Tokens that weigh less hold, all together, less than the rest that may be left out.
      const double least = (1 - double{limits.top_p}) * total / static_cast<double>(logits.size()) / 2;
      candidates.clear();
      for (std::size_t i = 0; i < logits.size(); ++i)
        if (weights[i] > 0 && weights[i] >= least)
          candidates.push_back({logits[i], weights[i], static_cast<std::int32_t>(i)});
    }
    select_weight(limits.top_p * total, candidates);
  }
  if (by_rank || limits.top_p < 1) {
    keep_only(candidates, weights);
    total = sum_blocks(weights, sums);
  }
  return pick(weights, sums, uniform * total);
}

std::vector<std::int32_t> likeliest(std::span<const float> logits, std::size_t count) {
  std::vector<std::int32_t> tokens;
  if (count == 0) return tokens;
  std::vector<Candidate>& best = scratch().candidates;
  select_likeliest(logits, {}, count, best);
  std::ranges::sort(best, goes_before);
  for (const Candidate& each : best) tokens.push_back(each.token);
  return tokens;
}

}  // namespace redline
