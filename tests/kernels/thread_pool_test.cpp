#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <vector>

namespace redline {
namespace {

TEST(ThreadPool, RunsEveryChunkOnceOnThreadsOfItsOwn) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (std::int64_t chunks : {0, 1, 2, 5, 64, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(chunks)),
          busy(static_cast<std::size_t>(threads));
      pool.run(chunks, [&](std::int64_t chunk, int thread) {
        EXPECT_EQ(busy[static_cast<std::size_t>(thread)].fetch_add(1), 0);
        runs[static_cast<std::size_t>(chunk)].fetch_add(1);
        busy[static_cast<std::size_t>(thread)].fetch_sub(1);
      });
      for (const auto& run : runs) EXPECT_EQ(run.load(), 1) << threads << " threads, " << chunks << " chunks";
    }
  }
}

TEST(ThreadPool, WhatOneJobWroteTheNextOneReads) {
  ThreadPool pool(3);
  std::vector<int> values(64, 0);
  for (int job = 0; job < 5000; ++job)
    pool.run(64, [&](std::int64_t chunk, int) {
      auto& value = values[static_cast<std::size_t>(63 - chunk)];
      ASSERT_EQ(value, job);
      ++value;
    });
}

TEST(ThreadPool, IdleThreadsSleep) {
  ThreadPool pool(4);
  pool.run(4, [](std::int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 50);  // 20 ms of the 800 that spinning would take
}

TEST(ThreadPool, DefaultsToAtLeastOneThread) { EXPECT_GE(default_num_threads(), 1); }

}  // namespace
}  // namespace redline
