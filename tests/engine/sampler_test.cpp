#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/constraint/constraint.h"

namespace redline {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
using Tokens = std::vector<std::int32_t>;

std::int32_t sample_once(const SamplingParams& params, std::vector<float> logits, Tokens prompt = {}) {
  return Sampler(params, 0, prompt, {}).sample(logits).token;
}

Tokens sample_many(const SamplingParams& params, const std::vector<float>& logits, int draws,
                   std::int32_t answer = 0, Tokens end_tokens = {}) {
  Tokens tokens;
  Sampler sampler(params, answer, {}, end_tokens);
  for (int i = 0; i < draws; ++i) {
    std::vector<float> row = logits;
    tokens.push_back(sampler.sample(row).token);
  }
  return tokens;
}

std::map<std::int32_t, int> histogram(const SamplingParams& params, const std::vector<float>& logits,
                                      int draws) {
  std::map<std::int32_t, int> counts;
  for (const std::int32_t token : sample_many(params, logits, draws)) counts[token] += 1;
  return counts;
}

TEST(Argmax, FindsTheFirstLargestAtEveryPlace) {
  for (std::size_t size : {1u, 5u, 16u, 17u, 64u, 100u})
    for (std::size_t at = 0; at < size; ++at) {
      std::vector<float> v(size, -3.5f);
      for (std::size_t i = at; i < size; i += 7) v[i] = 2.5f;
      EXPECT_EQ(argmax(v), static_cast<std::int32_t>(at)) << size;
    }
}

TEST(Argmax, RefusesNanAndInfinityWhereverTheyStand) {
  for (std::size_t at = 0; at < 40; ++at) {
    std::vector<float> v(40, 1.0f);
    v[at] = std::nanf("");
    EXPECT_EQ(argmax(v), -1);
    v[at] = kInf;
    EXPECT_EQ(argmax(v), -1);
    v[at] = -kInf;
    EXPECT_EQ(argmax(v), at == 0 ? 1 : 0);
  }
}

TEST(Sampler, AMaskRulesBeforeEverythingElse) {
  TokenMask mask(6);
  for (const std::int32_t token : {2, 3}) mask.set(token);
  const std::vector<float> logits = {9, 8, 1, 2, 7, 5, 6};
  SamplingParams params{.logit_bias = {{0, 100.0f}}, .num_logprobs = 1};
  const Tokens end = {4};
  for (const float temperature : {0.0f, 2.0f}) {
    params.temperature = temperature;
    Sampler sampler(params, 0, {}, end);
    for (int i = 0; i < 100; ++i) {
      std::vector<float> row = logits;
      const auto choice = sampler.sample(row, &mask, false);
      EXPECT_TRUE(mask.has(choice.token)) << choice.token;
      ASSERT_EQ(choice.logprobs.size(), 2u);
      EXPECT_EQ(choice.logprobs[1].token, 0) << "logprobs are of the whole vocabulary";
      row = logits;
      const auto last = sampler.sample(row, &mask, true);
      EXPECT_TRUE(mask.has(last.token) || last.token == 4) << last.token;
    }
  }
  std::vector<float> broken = {9, std::nanf(""), 1, 2, 7, 5, 6};
  EXPECT_EQ(Sampler(params, 0, {}, end).sample(broken, &mask, true).token, -1) << "behind the mask too";
  std::vector<float> row = logits;
  params.ignore_eos = true, params.temperature = 0;
  EXPECT_EQ(Sampler(params, 0, {}, end).sample(row, &mask, true).token, 3);
}

TEST(Sampler, OnlyAllowedTokensAreChosenWhateverTheConstraintSays) {
  TokenMask mask(7);
  for (const std::int32_t token : {2, 3, 5}) mask.set(token);
  const auto only = [](const Tokens& tokens) {
    TokenRules rules;
    for (const std::int32_t token : tokens) rules.allow(token);
    return std::make_shared<TokenRules>(rules);
  };
  SamplingParams params{.logit_bias = {{0, 100.0f}}, .token_rules = only({1, 3, 4}), .num_logprobs = 1};
  const Tokens end = {4, 6};
  const auto chosen = [&](const TokenMask* allowed) {
    std::vector<float> row = {9, 8, 7, 2, 1, 5, 6};
    const auto choice = Sampler(params, 0, {}, end).sample(row, allowed);
    if (choice.token >= 0) {
      EXPECT_EQ(choice.logprobs[1].token, 0) << "logprobs are of the whole vocabulary";
    }
    const auto asked = Sampler(params, 0, {}, end).ask(0, row.size(), allowed);
    EXPECT_EQ(asked.allowed.size(), 1u);
    EXPECT_EQ(asked.allowed[0], allowed ? 0b0011000u : 0b0011010u);
    return choice.token;
  };
  EXPECT_EQ(chosen(nullptr), 1);
  EXPECT_EQ(chosen(&mask), 3) << "of both";
  params.token_rules = only({1});
  std::vector<float> row = {9, 8, 7, 2, 1, 5, 6};
  EXPECT_EQ(Sampler(params, 0, {}, {}).sample(row, &mask).token, -1) << "nothing is left";
  row = {9, 8, std::nanf(""), 2, 1, 5, 6};
  EXPECT_EQ(Sampler(params, 0, {}, {}).sample(row).token, -1) << "behind the mask too";
}

TEST(Sampler, ABadSequenceIsNeverCompleted) {
  const SamplingParams params{
      .token_rules = std::make_shared<TokenRules>(TokenRules{.bad_sequences = {{3}, {2, 2, 1}}})};
  const std::vector<float> logits = {1, 4, 3, 9};
  Sampler sampler(params, 0, Tokens{2, 2}, {});
  const auto next = [&](std::int32_t favourite) {
    std::vector<float> row = logits;
    row[static_cast<std::size_t>(favourite)] += 5;
    std::vector<std::int32_t> forbidden;
    for (const LogitEdit& edit : sampler.ask(0, row.size()).edits)
      if (edit.is_forbidden) forbidden.push_back(edit.token);
    const std::int32_t token = sampler.sample(row).token;
    EXPECT_EQ(std::ranges::count(forbidden, token), 0);
    return token;
  };
  EXPECT_EQ(next(1), 1) << "the prompt's tokens do not count";
  EXPECT_EQ(next(2), 2);
  EXPECT_EQ(next(1), 1);
  EXPECT_EQ(next(2), 2);
  EXPECT_EQ(next(2), 2);
  EXPECT_EQ(next(1), 2) << "2 2 1";
  EXPECT_EQ(next(1), 2) << "2 2 2 1 ends with it too";
  EXPECT_EQ(next(3), 1 + 1);
}

TEST(Sampler, LogprobsOfAGivenToken) {
  const std::vector<float> logits = {0, 2, 1, 2};
  const double sum = 1 + 2 * std::exp(2.0) + std::exp(1.0);
  const auto logprobs = logprobs_of(logits, 2, 2);
  ASSERT_EQ(logprobs.size(), 3u);
  EXPECT_EQ(logprobs[0].token, 2);
  EXPECT_NEAR(logprobs[0].logprob, 1 - std::log(sum), 1e-6);
  EXPECT_EQ(logprobs[1].token, 1);
  EXPECT_EQ(logprobs[2].token, 3);
  EXPECT_TRUE(logprobs_of(std::vector<float>{0, kInf}, 0, 1).empty());
  const ChoiceRequest asked = ask_logprobs(5, 70, 3, 100);
  EXPECT_EQ(asked.row, 5);
  EXPECT_EQ(asked.allowed, (std::vector<std::uint64_t>{0, 64})) << "the token alone";
}

TEST(Sampler, IsGreedyByDefault) { EXPECT_EQ(sample_once({}, {0, 3, 1}), 1); }

TEST(Sampler, DrawsInProportionToProbability) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 11;
  const auto counts = histogram(params, {std::log(0.5f), std::log(0.3f), std::log(0.2f)}, 20000);
  EXPECT_NEAR(counts.at(0), 10000, 300);
  EXPECT_NEAR(counts.at(1), 6000, 300);
  EXPECT_NEAR(counts.at(2), 4000, 300);
}

TEST(Sampler, TemperatureSharpens) {
  SamplingParams params;
  params.temperature = 0.5f;  // probabilities squared: 0.8, 0.2
  EXPECT_NEAR(histogram(params, {std::log(2.0f), 0}, 20000).at(0), 16000, 300);
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  SamplingParams params;
  params.temperature = 1;
  params.top_k = 2;
  EXPECT_EQ(histogram(params, logits, 4000).size(), 2u);
  params.top_k = 0;
  params.top_p = 0.65f;  // 0.4 + 0.3
  EXPECT_EQ(histogram(params, logits, 4000).size(), 2u);
  params.top_p = 1;
  params.min_p = 0.45f;  // of 0.4: 0.18
  EXPECT_EQ(histogram(params, logits, 4000).size(), 3u);
  params.top_p = 1e-6f;  // never less than one
  EXPECT_EQ(histogram(params, logits, 100).size(), 1u);
}

TEST(Sampler, RepeatsForASeedAndDiffersByAnswerAndSeed) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 5;
  const std::vector<float> flat(1000, 0.0f);
  const Tokens tokens = sample_many(params, flat, 8);
  EXPECT_EQ(sample_many(params, flat, 8), tokens);
  EXPECT_NE(sample_many(params, flat, 8, 1), tokens);
  params.seed = 6;
  EXPECT_NE(sample_many(params, flat, 8), tokens);
}

TEST(Sampler, PenaltiesMoveTheChoice) {
  SamplingParams params;
  params.repetition_penalty = 2;
  EXPECT_EQ(sample_once(params, {3, 2, -1}, {0}), 1) << "3 / 2 < 2";
  EXPECT_EQ(sample_once(params, {-1, -1.5f}, {0}), 1) << "negative logits are multiplied";
  params.repetition_penalty = 1;
  params.presence_penalty = 0.6f;
  EXPECT_EQ(sample_many(params, {1, 0.5f}, 2), (Tokens{0, 1})) << "1 - 0.6 < 0.5";
  params.presence_penalty = 0;
  params.frequency_penalty = 0.4f;
  EXPECT_EQ(sample_many(params, {1, 0.5f}, 4), (Tokens{0, 0, 1, 0})) << "grows with the count";
  params.frequency_penalty = 0;
  params.logit_bias = {{1, 10.0f}};
  EXPECT_EQ(sample_once(params, {3, 2, -1}), 1);
}

TEST(Sampler, EndTokensWaitForMinTokens) {
  SamplingParams params;
  params.min_tokens = 1;
  EXPECT_EQ(sample_many(params, {5, 1}, 2, 0, {0}), (Tokens{1, 0}));
}

TEST(Sampler, LogprobsAreTheModelsOwnDistribution) {
  SamplingParams params;
  params.num_logprobs = 2;
  params.logit_bias = {{2, 100.0f}};
  std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const auto choice = Sampler(params, 0, {}, {}).sample(logits);
  ASSERT_EQ(choice.token, 2);
  ASSERT_EQ(choice.logprobs.size(), 3u);
  EXPECT_NEAR(choice.logprobs[0].logprob, std::log(0.2), 1e-6);
  EXPECT_EQ(choice.logprobs[1].token, 0);
  EXPECT_NEAR(choice.logprobs[2].logprob, std::log(0.3), 1e-6);
}

TEST(Sampler, ChoosesNothingFromBrokenLogits) {
  SamplingParams params;
  params.temperature = 1;
  EXPECT_EQ(sample_once(params, {1, std::nanf(""), 2}), -1);
  EXPECT_EQ(sample_once(params, {-kInf, -kInf}), -1);
}

TEST(Sampling, OutOfRangeFieldsAreNamedWithTheirLimits) {
  SamplingParams params;
  EXPECT_FALSE(invalid_sampling(params, 100));
  params.top_p = 1.5f;
  EXPECT_EQ(*invalid_sampling(params, 100), "top_p is 1.5, allowed are 0 to 1");
  params.top_p = 1;
  params.temperature = std::nanf("");
  EXPECT_NE(invalid_sampling(params, 100)->find("temperature"), std::string::npos);
  params.temperature = 0;
  params.logit_bias = {{100, 1.0f}};
  EXPECT_NE(invalid_sampling(params, 100)->find("0 to 99"), std::string::npos);
}

}  // namespace
}  // namespace redline
