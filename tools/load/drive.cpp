#include "tools/load/drive.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>

namespace redline::load {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr auto kPollInterval = std::chrono::milliseconds(100);
constexpr int kPollsPerPage = 10;

class Drive {
 public:
  Drive(Target& target, const std::vector<LoadRequest>& workload, const DriveOptions& options)
      : target_(target), workload_(workload), options_(options), seat_freed_(context_) {
    result_.records.resize(workload.size());
  }

  DriveResult run() {
    asio::co_spawn(context_, everything(), [this](std::exception_ptr failure) {
      failure_ = failure;
      context_.stop();
    });
    asio::co_spawn(context_, watch(), asio::detached);
    context_.run();
    if (failure_) std::rethrow_exception(failure_);
    for (RequestRecord& record : result_.records)
      if (!record.completed && record.error.empty()) record.error = "interrupted";
    return std::move(result_);
  }

 private:
  asio::awaitable<void> everything() {
    for (const LoadRequest& request : options_.warmups) co_await target_.send(request, [] {});
    result_.page_before = co_await target_.metrics();
    start_ = Clock::now();
    running_ = true;
    asio::steady_timer timer(context_);
    for (std::size_t i = 0; i < workload_.size(); ++i) {
      timer.expires_at(start_ + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(workload_[i].send_at_s)));
      if (timer.expiry() > Clock::now()) co_await timer.async_wait(kNoThrow);
      while (options_.max_concurrency > 0 && num_under_way_ >= options_.max_concurrency) co_await seat();
      ++num_under_way_;
      asio::co_spawn(context_, send(i), asio::detached);
    }
    while (num_under_way_ > 0) co_await seat();
    running_ = false;
    result_.wall_s = now_s();
    result_.page_after = co_await target_.metrics();
  }

  asio::awaitable<void> seat() {
    seat_freed_.expires_at(Clock::time_point::max());
    co_await seat_freed_.async_wait(kNoThrow);
  }

  asio::awaitable<void> send(std::size_t index) {
    RequestRecord& record = result_.records[index];
    record.sent_s = now_s();
    try {
      const TokenCounts tokens =
          co_await target_.send(workload_[index], [&] { record.chunks_s.push_back(now_s()); });
      record.prompt_tokens = tokens.prompt;
      record.cached_tokens = tokens.cached;
      record.tells_cached = tokens.tells_cached;
      record.output_tokens = tokens.output;
      record.completed = !record.chunks_s.empty();
      if (!record.completed) record.error = "the answer held nothing";
    } catch (const std::exception& error) {
      record.error = error.what();
    }
    ++num_done_;
    --num_under_way_;
    seat_freed_.cancel();
  }

  asio::awaitable<void> watch() {
    asio::steady_timer timer(context_);
    for (int polls = 1;; ++polls) {
      timer.expires_after(kPollInterval);
      co_await timer.async_wait(kNoThrow);
      if (options_.go_on && !options_.go_on(num_done_, workload_.size())) {
        result_.interrupted = true;
        result_.wall_s = now_s();
        context_.stop();
        co_return;
      }
      if (polls % kPollsPerPage == 0 && running_) result_.pages.push_back(co_await target_.metrics());
    }
  }

  double now_s() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  asio::io_context context_{1};
  Target& target_;
  const std::vector<LoadRequest>& workload_;
  const DriveOptions& options_;
  asio::steady_timer seat_freed_;
  Clock::time_point start_ = Clock::now();
  DriveResult result_;
  std::exception_ptr failure_;
  std::int64_t num_under_way_ = 0;
  std::size_t num_done_ = 0;
  bool running_ = false;
};

}  // namespace

DriveResult drive(Target& target, const std::vector<LoadRequest>& workload, const DriveOptions& options) {
  return Drive(target, workload, options).run();
}

}  // namespace redline::load
