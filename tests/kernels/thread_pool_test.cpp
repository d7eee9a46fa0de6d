#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
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

TEST(ThreadPool, DefaultsToTheCoresThatTheProcessMayUse) {
  const int before = default_num_threads();
  EXPECT_GE(before, 1);
  int on_one_core = 0;
  std::thread([&] {  // a mask belongs to its thread
    cpu_set_t mask;
    ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
    int first = 0;
    while (!CPU_ISSET(first, &mask)) ++first;
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof mask, &mask), 0);
    on_one_core = default_num_threads();
  })
      .join();
  EXPECT_EQ(on_one_core, 1);
  EXPECT_EQ(default_num_threads(), before);
}

}  // namespace
}  // namespace redline
