// The driver and the readers of what servers send, without sockets.
#include "tools/load/drive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <stdexcept>

#include "tools/load/event_reader.h"
#include "tools/load/metrics_page.h"
#include "tools/load/plot.h"

namespace redline::load {
namespace {

/// Answers with output_tokens chunks, pausing between; fails where there is no output to give.
class FakeTarget final : public Target {
 public:
  asio::awaitable<TokenCounts> send(const LoadRequest& request,
                                    const std::function<void()>& on_chunk) override {
    order.push_back(request.units.front());
    most_at_a_time = std::max(most_at_a_time, ++num_under_way);
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (std::int64_t i = 0; i < request.output_tokens; ++i) {
      timer.expires_after(std::chrono::milliseconds(1));
      co_await timer.async_wait(asio::use_awaitable);
      on_chunk();
    }
    --num_under_way;
    if (request.output_tokens == 0) throw std::runtime_error("refused");
    co_return TokenCounts{10, 4, request.output_tokens};
  }
  asio::awaitable<std::string> metrics() override { co_return "pages " + std::to_string(++num_pages) + "\n"; }

  std::vector<std::int32_t> order;
  int num_under_way = 0, most_at_a_time = 0, num_pages = 0;
};

std::vector<LoadRequest> numbered(std::int32_t count) {
  std::vector<LoadRequest> requests(static_cast<std::size_t>(count));
  for (std::int32_t i = 0; i < count; ++i) {
    requests[static_cast<std::size_t>(i)].units = {i};
    requests[static_cast<std::size_t>(i)].output_tokens = 1 + i % 5;
  }
  return requests;
}

TEST(Drive, SendsInOrderAndNeverMoreThanMayRun) {
  FakeTarget target;
  const auto result = drive(target, numbered(40), {.max_concurrency = 3});
  EXPECT_EQ(target.most_at_a_time, 3);
  ASSERT_EQ(target.order.size(), 40u);
  EXPECT_TRUE(std::ranges::is_sorted(target.order));
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_TRUE(result.records[i].completed);
    EXPECT_EQ(result.records[i].chunks_s.size(), 1 + i % 5);
    EXPECT_TRUE(std::ranges::is_sorted(result.records[i].chunks_s));
    EXPECT_GE(result.records[i].chunks_s.front(), result.records[i].sent_s);
  }
  EXPECT_EQ(statistics_of(result.records, {}).cached_tokens, 160);
}

TEST(Drive, WithoutALimitAllRunAtOnce) {
  FakeTarget target;
  drive(target, numbered(40), {});
  EXPECT_EQ(target.most_at_a_time, 40);
}

TEST(Drive, WaitsForEachRequestsTime) {
  FakeTarget target;
  auto requests = numbered(3);
  requests[1].send_at_s = requests[2].send_at_s = 0.05;
  const auto result = drive(target, requests, {});
  EXPECT_LT(result.records[0].sent_s, 0.05);
  EXPECT_GE(result.records[1].sent_s, 0.05);
  EXPECT_GE(result.wall_s, 0.05);
}

TEST(Drive, WarmUpsGoFirstAndAreNotCounted) {
  FakeTarget target;
  auto warmups = numbered(2);
  for (LoadRequest& request : warmups) request.units = {-1};
  const auto result = drive(target, numbered(3), {.warmups = warmups});
  EXPECT_EQ(target.order, (std::vector<std::int32_t>{-1, -1, 0, 1, 2}));
  EXPECT_EQ(result.records.size(), 3u);
  EXPECT_EQ(result.page_before, "pages 1\n");
  EXPECT_NE(result.page_after, "");
}

TEST(Drive, ARequestThatFailsLeavesTheOthersAlone) {
  FakeTarget target;
  auto requests = numbered(5);
  requests[2].output_tokens = 0;
  const auto result = drive(target, requests, {.max_concurrency = 1});
  EXPECT_FALSE(result.records[2].completed);
  EXPECT_EQ(result.records[2].error, "refused");
  EXPECT_EQ(statistics_of(result.records, {}).completed, 4);
}

TEST(Drive, AnInterruptEndsTheRunAndCountsWhatHadNotEndedAsFailed) {
  FakeTarget target;
  auto requests = numbered(4);
  requests[3].send_at_s = 1e6;
  const auto result =
      drive(target, requests, {.go_on = [](std::size_t done, std::size_t) { return done < 3; }});
  EXPECT_TRUE(result.interrupted);
  EXPECT_TRUE(result.records[2].completed);
  EXPECT_EQ(result.records[3].error, "interrupted");
}

TEST(EventReader, GivesTheSameEventsHoweverTheBytesAreCut) {
  const std::string stream =
      "data: {\"a\": 1}\n\n: a comment\nevent: x\r\ndata: two\r\ndata:lines\r\n\r\ndata: [DONE]\n\n";
  const std::vector<std::string> expected = {"{\"a\": 1}", "two\nlines", "[DONE]"};
  for (std::size_t cut = 1; cut <= stream.size(); ++cut) {
    EventReader reader;
    std::vector<std::string> found;
    for (std::size_t at = 0; at < stream.size(); at += cut)
      for (std::string& event : reader.feed(std::string_view(stream).substr(at, cut)))
        found.push_back(std::move(event));
    EXPECT_EQ(found, expected) << cut;
  }
}

TEST(MetricsPage, SumsTheSamplesThatHaveTheLabels) {
  const MetricsPage page(
      "# TYPE a counter\na{x=\"1\",y=\"p\\\"q\\\\n\"} 2\na{y=\"z\",x=\"2\"} 3.5\nab 7\nc NaN\nnot a "
      "sample\n");
  EXPECT_EQ(page.sum("a"), 5.5);
  EXPECT_EQ(page.sum("a", {{"x", "2"}}), 3.5);
  EXPECT_EQ(page.sum("a", {{"y", "p\"q\\n"}}), 2);
  EXPECT_EQ(page.sum("a", {{"x", "3"}}), std::nullopt);
  EXPECT_EQ(page.sum("b"), std::nullopt);
}

TEST(MetricsPage, UtilizationIsTheCountersGrowthOverTheWall) {
  const auto page = [](const char* flops, const char* bytes, const char* compute_s) {
    return "redline_flops_total{phase=\"decode\",part=\"ffn\",work=\"useful\"} " + std::string(flops) +
           "\nredline_flops_total{phase=\"decode\",part=\"ffn\",work=\"wasted\"} 77\n"
           "redline_flops_total{phase=\"prefill\",part=\"ffn\",work=\"useful\"} 0\n"
           "redline_bytes_total{phase=\"decode\",part=\"weights\"} " +
           bytes +
           "\nredline_bytes_total{phase=\"decode\",part=\"declared\"} 1e9\n"
           "redline_bytes_total{phase=\"prefill\",part=\"weights\"} 0\n"
           "redline_compute_seconds_total{phase=\"decode\",peak=\"attainable\"} " +
           compute_s +
           "\nredline_compute_seconds_total{phase=\"prefill\",peak=\"attainable\"} 0\n"
           "redline_peak_bytes_per_second{source=\"attainable\"} 1000\n"
           "redline_kv_usage_ratio 0.5\nredline_kv_fragmentation_ratio 0.25\n";
  };
  const std::string before = page("100", "2000", "1"), after = page("400", "6000", "3");
  const Json use = utilization_between(before, after, 8, {after});
  EXPECT_EQ(use["peak_basis"], "attainable");
  EXPECT_EQ(use["phases"]["decode"]["flops"], 300);
  EXPECT_EQ(use["phases"]["decode"]["bytes"], 4000);
  EXPECT_DOUBLE_EQ(use["mfu"], 0.25);
  EXPECT_DOUBLE_EQ(use["mbu"], 0.5);
  EXPECT_TRUE(use["phases"]["decode"]["ratios"]["vendor"]["mbu"].is_null());
  EXPECT_DOUBLE_EQ(use["kv_block_utilization"], 0.75);
  EXPECT_TRUE(use["preemptions"].is_null());
  EXPECT_TRUE(utilization_between("", after, 8, {}).is_null());
}

TEST(Plot, EveryPointIsMarkedAndTextIsEscaped) {
  LoadPoint point;
  point.model = "a<b&c";
  point.outcome.records.resize(1);
  point.statistics.duration_s = 2;
  point.statistics.output_tokens = 100;
  point.statistics.ttft_ms = summarize({5, 30});
  const std::string svg = to_svg({point, point, point});
  std::size_t marks = 0;
  for (std::size_t at = 0; (at = svg.find("<circle", at)) != std::string::npos; ++at) ++marks;
  EXPECT_EQ(marks, 3u * 2 * 2);
  EXPECT_NE(svg.find("a&lt;b&amp;c"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("http://", svg.find("xmlns") + 30), std::string::npos) << "it loads nothing";
}

}  // namespace
}  // namespace redline::load
