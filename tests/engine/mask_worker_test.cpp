#include "engine/constraint/mask_worker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/answer.h"
#include "engine/constraint/gbnf.h"

namespace redline {
namespace {

constexpr std::size_t kTokens = 211;

std::shared_ptr<Constraint> lists() {
  std::vector<std::string> texts;
  for (std::size_t id = 0; id < kTokens; ++id)
    texts.push_back(id % 7 < 3 ? std::string(1, "[],"[id % 7])
                               : std::string(1 + id % 3, static_cast<char>('a' + id % 26)));
  return std::make_shared<Constraint>(
      parse_gbnf("root ::= item+\nitem ::= \"[\" (item (\",\" item)*)? \"]\" | [a-z]{1,20} \",\""),
      std::make_shared<ConstraintVocabulary>(texts),
      std::chrono::steady_clock::now() + std::chrono::seconds(20));
}

std::vector<float> random_logits(std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> logits(kTokens);
  for (float& x : logits) x = normal(random);
  return logits;
}

TEST(MaskWorker, MatchersOfOneConstraintGetTheirOwnMasksWhileOthersGoOn) {
  const std::uint32_t seed = 5;
  std::mt19937 random(seed);
  const auto shared = lists();
  MaskWorker worker;
  std::vector<Matcher> ahead(8, Matcher(shared)), alone(8, Matcher(lists()));
  for (int step = 0; step < 60; ++step) {
    std::vector<std::future<NextTokens>> futures;
    for (const Matcher& matcher : ahead) futures.push_back(worker.begin(matcher));
    for (std::size_t i = 0; i < ahead.size(); ++i) {
      const NextTokens next = futures[i].get(), expected = next_tokens(alone[i]);
      ASSERT_TRUE(std::ranges::equal(next.allowed->words(), expected.allowed->words())) << "seed " << seed;
      ASSERT_EQ(next.may_end, expected.may_end);
      std::vector<TokenId> allowed;
      for (TokenId token = 0; token < static_cast<TokenId>(kTokens); ++token)
        if (next.allowed->has(token)) allowed.push_back(token);
      ASSERT_FALSE(allowed.empty());
      const TokenId token = allowed[random() % allowed.size()];
      ASSERT_TRUE(ahead[i].advance(token) && alone[i].advance(token));  // while the worker is at the others
    }
  }
}

TEST(MaskWorker, AnAnswerSaysTheSameWhetherItLooksAheadOrNot) {
  Request request{.prompt = {1}, .sampling = {.temperature = 1, .seed = 3, .max_tokens = 80}};
  request.constraint = lists();
  Answer plain(request, 0, 80, nullptr, {});
  MaskWorker worker;
  Answer ahead(request, 0, 80, nullptr, {});
  ahead.look_ahead(worker);
  std::mt19937 random(9);
  for (int step = 0; step < 80; ++step) {
    std::vector<float> logits = random_logits(random), same = logits;
    const OutputEvent expected = plain.step(logits), event = ahead.step(same);
    ASSERT_EQ(event.token_ids, expected.token_ids) << step;
    ASSERT_EQ(event.finish_reason, expected.finish_reason);
    if (step % 3 > 0) ahead.look_ahead(worker);
  }
}

TEST(MaskWorker, ErrorsReachWhoAsksForTheMask) {
  MaskWorker worker;
  Request request{.prompt = {1}, .sampling = {.max_tokens = 8}};
  request.constraint =
      std::make_shared<Constraint>(parse_gbnf("root ::= \"a\" \"b\""),
                                   std::make_shared<ConstraintVocabulary>(std::vector<std::string>{"a", "c"}),
                                   std::chrono::steady_clock::now() + std::chrono::seconds(20));
  Answer answer(request, 0, 8, nullptr, {});
  std::vector<float> logits = {0, 1};
  answer.look_ahead(worker);
  EXPECT_EQ(answer.step(logits).token_ids, (std::vector<std::int32_t>{0}));
  answer.look_ahead(worker);
  EXPECT_EQ(answer.step(logits).finish_reason, FinishReason::kError) << "no token begins with b";
}

TEST(MaskWorker, EndsAtOnceWithWorkLeft) {
  const auto constraint = lists();
  std::vector<std::future<NextTokens>> futures;
  {
    MaskWorker worker;
    for (int i = 0; i < 1000; ++i) futures.push_back(worker.begin(Matcher(constraint)));
  }
  for (auto& future : futures) EXPECT_EQ(future.wait_for(std::chrono::seconds(0)), std::future_status::ready);
}

}  // namespace
}  // namespace redline
