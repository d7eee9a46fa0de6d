#include "engine/answer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace redline {
namespace {

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher stops({"###", "end."}, false);
  EXPECT_EQ(stops.add("one #"), "one ");
  EXPECT_EQ(stops.add("# two"), "## two");
  EXPECT_EQ(stops.add(" en"), " ");
  EXPECT_EQ(stops.add("d"), "");
  EXPECT_EQ(stops.flush(), "end");
  EXPECT_EQ(stops.matched(), "");
}

TEST(StopMatcher, EndsBeforeTheFirstMatchHoweverTheTextArrives) {
  const std::string text = "alpha beta STOP gamma";
  for (std::size_t piece = 1; piece < text.size(); ++piece) {
    StopMatcher stops({"gamma", "STOP"}, false), including({"gamma", "STOP"}, true);
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
  StopMatcher stops({"aab"}, false);
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
