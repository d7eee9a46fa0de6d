#include "tools/load/statistics.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace redline::load {
namespace {

RequestRecord record(double sent_s, std::vector<double> chunks_s, std::int64_t output_tokens) {
  RequestRecord result;
  result.completed = true;
  result.sent_s = sent_s;
  result.chunks_s = std::move(chunks_s);
  result.prompt_tokens = 10;
  result.output_tokens = output_tokens;
  return result;
}

TEST(Statistics, AreThoseOfNumPy) {
  // numpy.percentile([1, 2, 3, 4, 10], [50, 90, 95, 99]), .std(), .mean()
  const Summary s = summarize({10, 3, 1, 4, 2});
  EXPECT_DOUBLE_EQ(s.mean, 4);
  EXPECT_DOUBLE_EQ(s.median, 3);
  EXPECT_DOUBLE_EQ(s.std, 3.1622776601683795);
  EXPECT_DOUBLE_EQ(s.p50, 3);
  EXPECT_DOUBLE_EQ(s.p90, 7.6);
  EXPECT_DOUBLE_EQ(s.p95, 8.8);
  EXPECT_DOUBLE_EQ(s.p99, 9.76);
  EXPECT_EQ(summarize({}).p99, 0);
  EXPECT_EQ(summarize({5}).p99, 5);
}

TEST(Statistics, FollowTheDefinitions) {
  // The second's chunks hold two tokens each.
  const auto s =
      statistics_of({record(1, {1.5, 1.75, 2}, 3), record(2, {4, 5}, 5), record(3, {3.25}, 1)}, {});
  EXPECT_EQ(s.completed, 3);
  EXPECT_DOUBLE_EQ(s.duration_s, 4);
  EXPECT_EQ(s.output_tokens, 9);
  EXPECT_EQ(s.prompt_tokens, 30);
  EXPECT_DOUBLE_EQ(s.ttft_ms.mean, (500 + 2000 + 250) / 3.0);
  EXPECT_DOUBLE_EQ(s.e2el_ms.mean, (1000 + 3000 + 250) / 3.0);
  EXPECT_DOUBLE_EQ(s.tpot_ms.mean, (250 + 250) / 2.0) << "one token has none";
  EXPECT_DOUBLE_EQ(s.itl_ms.mean, (250 + 250 + 1000) / 3.0) << "gaps of all requests together";
  EXPECT_EQ(s.max_concurrent, 2) << "a request that ends as another is sent does not overlap it";
}

TEST(Statistics, FailedRequestsCountAsSuchAndNowhereElse) {
  RequestRecord failed = record(0, {100}, 7);
  failed.completed = false;
  const auto s = statistics_of({failed, record(1, {2}, 1)}, {});
  EXPECT_EQ(s.failed, 1);
  EXPECT_EQ(s.completed, 1);
  EXPECT_EQ(s.output_tokens, 1);
  EXPECT_DOUBLE_EQ(s.duration_s, 1);
  EXPECT_EQ(statistics_of({failed}, {}).duration_s, 0);
}

TEST(Statistics, GoodputCountsRequestsWithinEveryLimit) {
  const std::vector<RequestRecord> records = {record(0, {0.2, 0.25}, 2), record(0, {0.21, 0.22}, 2),
                                              record(0, {0.1, 0.16}, 2), record(0, {0.1}, 1)};
  EXPECT_EQ(statistics_of(records, Goodput::parse({"ttft:200", "tpot:50"})).good, 2);
  EXPECT_EQ(statistics_of(records, Goodput::parse({"e2el:230"})).good, 3);
  EXPECT_EQ(statistics_of(records, {}).good, 4);
  EXPECT_FALSE(Goodput::parse({}).any());
  for (const char* text : {"ttft", "ttft:", "ttft:x", "ttft:0", "itl:5", "ttft:5ms", ""})
    EXPECT_THROW(Goodput::parse({text}), std::invalid_argument) << text;
}

}  // namespace
}  // namespace redline::load
