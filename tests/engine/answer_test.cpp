#include "engine/answer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/constraint/gbnf.h"

namespace redline {
namespace {

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  const std::vector<std::string> texts = {"###", "end."};
  StopMatcher stops(texts, false);
  EXPECT_EQ(stops.add("one #"), "one ");
  EXPECT_EQ(stops.add("# two"), "## two");
  EXPECT_EQ(stops.add(" en"), " ");
  EXPECT_EQ(stops.add("d"), "");
  EXPECT_EQ(stops.flush(), "end");
  EXPECT_EQ(stops.matched(), "");
}

TEST(StopMatcher, EndsBeforeTheFirstMatchHoweverTheTextArrives) {
  const std::string text = "alpha beta STOP gamma";
  const std::vector<std::string> texts = {"gamma", "STOP"};
  for (std::size_t piece = 1; piece < text.size(); ++piece) {
    StopMatcher stops(texts, false), including(texts, true);
    std::string shown, shown_including;
    for (std::size_t i = 0; i < text.size(); i += piece) {
      shown += stops.add(text.substr(i, piece));
      shown_including += including.add(text.substr(i, piece));
    }
    EXPECT_EQ(shown, "alpha beta ");
    EXPECT_EQ(shown_including, "alpha beta STOP");
    EXPECT_EQ(stops.matched(), "STOP");
  }
}

TEST(StopMatcher, OverlappingBeginningsAreNotLost) {
  const std::vector<std::string> texts = {"aab"};
  StopMatcher stops(texts, false);
  std::string shown;
  for (const char* piece : {"aa", "a", "ab!"}) shown += stops.add(piece);
  EXPECT_EQ(shown, "aa");
  EXPECT_EQ(stops.matched(), "aab");
}

Request request_with(SamplingParams params) {
  Request request;
  request.prompt = {1};
  request.sampling = std::move(params);
  return request;
}

std::vector<float> logits_for(std::size_t token) {
  std::vector<float> logits(8, 0.0f);
  logits[token] = 1;
  return logits;
}

Request request_for(const char* gbnf, const std::vector<std::string>& texts, SamplingParams params) {
  Request request = request_with(std::move(params));
  request.constraint =
      std::make_shared<Constraint>(parse_gbnf(gbnf), std::make_shared<ConstraintVocabulary>(texts),
                                   std::chrono::steady_clock::now() + std::chrono::seconds(20));
  return request;
}

TEST(Answer, KeepsToItsConstraintAndEndsWithIt) {
  const std::vector<std::string> texts = {"", "a", "b", "ab", "c", "", "", ""};
  const std::vector<std::int32_t> end = {7};
  const Request request = request_for("root ::= \"a\"+ \"b\"", texts, {});
  Answer first(request, 0, 100, nullptr, end), second(request, 1, 100, nullptr, end);
  for (const std::size_t wished : {4, 7, 1}) {  // neither c nor the end may come here
    std::vector<float> logits = logits_for(wished);
    EXPECT_EQ(first.step(logits).token_ids, std::vector<std::int32_t>{1}) << wished;
  }
  auto logits = logits_for(3);
  const OutputEvent last = first.step(logits);
  EXPECT_EQ(last.token_ids, std::vector<std::int32_t>{3});
  EXPECT_EQ(last.finish_reason, FinishReason::kStop) << "nothing can follow";
  logits = logits_for(2);
  EXPECT_EQ(second.step(logits).token_ids, std::vector<std::int32_t>{1})
      << "each answer has a place of its own";
}

TEST(Answer, MayEndOnlyWhereTheConstraintMay) {
  const std::vector<std::int32_t> end = {7};
  Answer answer(request_for("root ::= \"ab\"*", {"", "a", "b", "", "", "", "", ""}, {}), 0, 100, nullptr,
                end);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 2; ++i) {
    auto logits = logits_for(static_cast<std::size_t>(i == 0 ? 1 : 7));
    tokens.push_back(answer.step(logits).token_ids[0]);
  }
  EXPECT_EQ(tokens, (std::vector<std::int32_t>{1, 2}));
  auto logits = logits_for(7);
  const OutputEvent last = answer.step(logits);
  EXPECT_EQ(last.token_ids, std::vector<std::int32_t>{7});
  EXPECT_EQ(last.finish_reason, FinishReason::kStop);
}

TEST(Answer, FailsWhereNoTokenGoesOnAsItsConstraintAsks) {
  Answer answer(request_for("root ::= \"ax\"", {"a", "b"}, {}), 0, 100, nullptr, {});
  std::vector<float> logits = {1, 2};
  EXPECT_EQ(answer.step(logits).token_ids, std::vector<std::int32_t>{0});
  const OutputEvent failed = answer.step(logits);
  EXPECT_EQ(failed.finish_reason, FinishReason::kError);
  EXPECT_NE(failed.error.find("no token of the vocabulary"), std::string::npos) << failed.error;
}

TEST(Answer, EndsAtTheLengthOrAnEndToken) {
  const std::vector<std::int32_t> end = {7};
  Answer answer(request_with({.max_tokens = 2}), 0, 100, nullptr, end);
  auto logits = logits_for(3);
  EXPECT_EQ(answer.step(logits).finish_reason, FinishReason::kNone);
  logits = logits_for(3);
  EXPECT_EQ(answer.step(logits).finish_reason, FinishReason::kLength);

  Answer stopped(request_with({}), 0, 100, nullptr, end);
  logits = logits_for(7);
  const OutputEvent event = stopped.step(logits);
  EXPECT_EQ(event.finish_reason, FinishReason::kStop);
  EXPECT_EQ(event.token_ids, (std::vector<std::int32_t>{7})) << "the end token is reported";

  Answer ignoring(request_with({.ignore_eos = true}), 0, 100, nullptr, end);
  logits = logits_for(7);
  EXPECT_EQ(ignoring.step(logits).finish_reason, FinishReason::kNone);
}

TEST(Answer, BrokenLogitsAreAnError) {
  Answer answer(request_with({}), 0, 100, nullptr, {});
  std::vector<float> logits(8, std::nanf(""));
  const OutputEvent event = answer.step(logits);
  EXPECT_EQ(event.finish_reason, FinishReason::kError);
  EXPECT_FALSE(event.error.empty());
  EXPECT_TRUE(event.token_ids.empty());
}

}  // namespace
}  // namespace redline
