#include "server/step_pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

namespace redline::server {
namespace {

TEST(StepPace, TheEngineIsNeverMoreThanTwoStepsAheadOfASlowServer) {
  boost::asio::io_context context;
  const auto work = boost::asio::make_work_guard(context);
  StepPace pace([&](std::function<void()> what) { boost::asio::post(context, std::move(what)); });
  std::atomic<int> num_made = 0;
  int num_served = 0, most_ahead = 0;
  std::thread server([&] { context.run(); });
  for (int i = 0; i < 50; ++i) {
    ++num_made;
    boost::asio::post(context, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      most_ahead = std::max(most_ahead, num_made - ++num_served);
    });
    pace.after_step();
  }
  context.stop();
  server.join();
  EXPECT_LE(most_ahead, 2);
}

TEST(StepPace, AServerThatHasEndedDoesNotHoldTheEngineForEver) {
  StepPace pace([](std::function<void()>) {});
  pace.after_step();
  pace.after_step();
}

}  // namespace
}  // namespace redline::server
