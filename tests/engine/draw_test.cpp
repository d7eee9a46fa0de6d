#include "engine/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>

namespace redline {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Candidate {
  double weight;
  std::int32_t token;
};

// What may be drawn, by sorting everything, in double: the tokens in order of ids, and where a token would be
// in or out by the last digits, it is in both answers of `slack` > 0 and in none of `slack` < 0.
std::vector<Candidate> slow_limits(const std::vector<float>& logits, const DrawLimits& limits, double slack) {
  const double best = *std::ranges::max_element(logits);
  std::vector<Candidate> all;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - best) / limits.temperature);
    const double least = std::max(double{limits.min_p}, std::exp(-42.0));
    if (weight >= least * (1 - slack)) all.push_back({weight, static_cast<std::int32_t>(i)});
  }
  std::ranges::stable_sort(all, [&](const Candidate& a, const Candidate& b) {
    return logits[static_cast<std::size_t>(a.token)] > logits[static_cast<std::size_t>(b.token)];
  });
  if (limits.top_k > 0 && std::ssize(all) > limits.top_k) all.resize(static_cast<std::size_t>(limits.top_k));
  double total = 0, sum = 0;
  for (const Candidate& each : all) total += each.weight;
  std::size_t kept = 0;
  while (kept < all.size() && (kept == 0 || sum < (double{limits.top_p} + slack) * total))
    sum += all[kept++].weight;
  if (limits.top_p < 1) all.resize(kept);
  std::ranges::sort(all, {}, &Candidate::token);
  return all;
}

// Whether `token` is where `uniform` falls, but for rounding.
bool is_drawn(const std::vector<Candidate>& kept, std::int32_t token, double uniform) {
  constexpr double kRounding = 2e-6;
  double total = 0, sum = 0;
  for (const Candidate& each : kept) total += each.weight;
  for (const Candidate& each : kept) {
    if (each.token == token)
      return uniform * total >= sum - kRounding * total &&
             uniform * total <= sum + each.weight + kRounding * total;
    sum += each.weight;
  }
  return false;
}

std::vector<float> random_logits(std::mt19937& random, std::size_t size) {
  const float spread = std::vector{0.0f, 0.1f, 3.0f, 30.0f}[random() % 4];
  std::normal_distribution<float> normal(0, spread > 0 ? spread : 1);
  std::vector<float> logits(size);
  for (float& x : logits) {
    x = spread > 0 ? normal(random) : static_cast<float>(random() % 3);  // with ties
    if (random() % 50 == 0) x = -kInf;
  }
  logits[random() % size] = 1;
  return logits;
}

TEST(Draw, IsWhatSortingEverythingGives) {
  const std::uint32_t seed = 20240917;
  std::mt19937 random(seed);
  int num_limited = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const std::size_t size = std::vector<std::size_t>{1, 2, 15, 17, 255, 257, 1000, 5003}[random() % 8];
    const std::vector<float> logits = random_logits(random, size);
    DrawLimits limits;
    limits.temperature = std::vector{1e-40f, 0.05f, 0.7f, 1.0f, 3.0f}[random() % 5];
    if (random() % 2) limits.top_k = static_cast<std::int32_t>(1 + random() % (size + 2));
    if (random() % 2) limits.top_p = std::vector{1e-6f, 0.3f, 0.9f, 0.95f, 0.999f}[random() % 5];
    if (random() % 3 == 0) limits.min_p = std::vector{1e-3f, 0.05f, 1.0f}[random() % 3];
    const double uniform =
        std::vector{0.0, 1 - 0x1p-53, static_cast<double>(random()) * 0x1p-32}[random() % 3];
    const std::int32_t token = draw(logits, *std::ranges::max_element(logits), limits, uniform);
    const auto kept = slow_limits(logits, limits, 0);
    bool drawn = is_drawn(kept, token, uniform);
    for (const double slack : {1e-6, -1e-6})  // a token more or less, by the last digits
      drawn = drawn || is_drawn(slow_limits(logits, limits, slack), token, uniform);
    ASSERT_TRUE(drawn) << "seed " << seed << " trial " << trial << ": token " << token << " of " << size
                       << ", temperature " << limits.temperature << ", top_k " << limits.top_k << ", top_p "
                       << limits.top_p << ", min_p " << limits.min_p << ", uniform " << uniform;
    num_limited += kept.size() < size / 2;
  }
  EXPECT_GT(num_limited, 500);
}

TEST(Draw, TheSameOnEveryThread) {
  std::mt19937 random(7);
  const std::vector<float> logits = random_logits(random, 49152), other = random_logits(random, 777);
  const auto best = *std::ranges::max_element(logits), others_best = *std::ranges::max_element(other);
  std::vector<std::int32_t> tokens[2];
  const auto run = [&](std::vector<std::int32_t>& out, bool between) {
    for (int i = 0; i < 200; ++i) {
      if (between) draw(other, others_best, {.top_k = 20}, 0.3);
      out.push_back(draw(logits, best, {.top_p = i % 2 ? 0.9f : 1.0f}, i / 200.0));
    }
  };
  std::thread first(run, std::ref(tokens[0]), false), second(run, std::ref(tokens[1]), true);
  first.join();
  second.join();
  EXPECT_EQ(tokens[0], tokens[1]);
}

TEST(Draw, TheLikeliestComeInOrderTiesByIdWithoutTheForbidden) {
  const std::vector<float> logits = {1, 3, 2, 3, -kInf, 0, 3};
  EXPECT_EQ(likeliest(logits, 4), (std::vector<std::int32_t>{1, 3, 6, 2}));
  EXPECT_EQ(likeliest(logits, 9), (std::vector<std::int32_t>{1, 3, 6, 2, 0, 5}));
  EXPECT_TRUE(likeliest(logits, 0).empty());
}

}  // namespace
}  // namespace redline
