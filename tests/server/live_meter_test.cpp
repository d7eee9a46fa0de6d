#include "server/live_meter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <utility>

namespace redline::server {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::size_t kF32 = static_cast<std::size_t>(ComputeType::kF32);
constexpr std::size_t kDecode = static_cast<std::size_t>(Phase::kDecode);

DevicePeaks known_peaks() {
  DevicePeaks peaks;
  peaks.compute[kF32].attainable = 1e9;
  peaks.bandwidth.attainable = 1e8;
  return peaks;
}

Counts work(std::int64_t flops) {
  Counts counts;
  counts.tokens = 1;
  counts.flops[0] = counts.flops_by_type[kF32] = flops;
  counts.weights = 1000;
  return counts;
}

// A LiveMeter and a clock that the test moves.
class Engine {
 public:
  void idle(std::int64_t ns) { now_ns += ns; }
  void step(std::int64_t wall_ns, std::int64_t flops, std::int64_t gap_ns = 0, const Counts& wasted = {}) {
    StepCounts counts;
    counts.phase[kDecode] = work(flops);
    counts.busy_ns[kDecode] = static_cast<double>(wall_ns) / 2;
    StepRecord record;
    record.counts = &counts;
    record.start_ns = now_ns + gap_ns;
    record.gap_ns = gap_ns;
    record.wall_ns = wall_ns;
    record.num_decode_tokens = record.num_sequences = 1;
    record.wasted_since[kDecode] = wasted;
    meter.add_step(record);
    now_ns += gap_ns + wall_ns;
  }
  LiveReading read(bool working = false) { return meter.read(now_ns, working); }
  double flops_in_window() { return static_cast<double>(read().window[kDecode].counts.flops[0]); }

  std::int64_t now_ns = 77 * kSecond;
  LiveMeter meter{known_peaks(), 0, now_ns};
};

TEST(LiveMeter, TheWindowHoldsTheWorkOfTheLastTenSecondsAndNothingOlder) {
  Engine engine;
  for (int i = 0; i < 300; ++i) engine.step(kSecond / 10, 1 << 20);  // half a minute
  EXPECT_NEAR(engine.flops_in_window(), 100 << 20, 11 << 20);
  EXPECT_NEAR(engine.read().window_s, 10, 1.1);
  engine.idle(5 * kSecond);
  EXPECT_NEAR(engine.flops_in_window(), 50 << 20, 11 << 20);
  engine.idle(5 * kSecond);
  EXPECT_EQ(engine.flops_in_window(), 0);
  EXPECT_DOUBLE_EQ(engine.read().window_s, 10);
}

TEST(LiveMeter, WorkBeforeALongPauseIsNotInTheWindowAfterIt) {
  Engine engine;
  for (int i = 0; i < 5; ++i) engine.step(kSecond / 10, 1000);
  engine.idle(60 * kSecond);
  engine.step(kSecond / 10, 7);
  EXPECT_EQ(engine.flops_in_window(), 7);
  EXPECT_DOUBLE_EQ(engine.read().window_s, 10);
}

TEST(LiveMeter, AStepLongerThanTheWindowIsHeldAgainstItsOwnTime) {
  Engine engine;
  engine.step(kSecond, 1);
  engine.step(40 * kSecond, 500);
  const LiveReading reading = engine.read();
  EXPECT_EQ(reading.window[kDecode].counts.flops[0], 500);
  EXPECT_DOUBLE_EQ(reading.window_s, 40);
}

TEST(LiveMeter, AYoungMeterHasAShortWindow) {
  Engine engine;
  engine.step(2 * kSecond, 9);
  EXPECT_EQ(engine.flops_in_window(), 9);
  EXPECT_DOUBLE_EQ(engine.read().window_s, 2);
}

TEST(LiveMeter, IdleGapAndBusyAddUpToAllTime) {
  Engine engine;
  const std::int64_t start_ns = engine.now_ns;
  engine.idle(3 * kSecond);
  engine.step(kSecond, 1);
  engine.step(kSecond, 1, kSecond / 4);
  engine.idle(2 * kSecond);
  const LiveReading reading = engine.read();
  EXPECT_DOUBLE_EQ(reading.idle_s, 5);
  EXPECT_DOUBLE_EQ(reading.gap_s, 1.25);
  EXPECT_DOUBLE_EQ(reading.busy_s, 1);
  EXPECT_DOUBLE_EQ(reading.idle_s + reading.gap_s + reading.busy_s,
                   static_cast<double>(engine.now_ns - start_ns) * 1e-9);
}

TEST(LiveMeter, TimeInAStepThatHasNotEndedIsNotIdle) {
  Engine engine;
  engine.idle(kSecond);
  engine.step(kSecond, 1);
  engine.now_ns += 5 * kSecond;
  EXPECT_DOUBLE_EQ(engine.read(true).idle_s, 1);
}

TEST(LiveMeter, AWindowsIdleGapAndBusyTimeAreItsOwn) {
  Engine engine;
  engine.step(kSecond, 1);
  engine.idle(100 * kSecond);
  engine.step(2 * kSecond, 5, kSecond);  // half busy
  engine.idle(7 * kSecond);
  const auto check = [&](std::int64_t length, double wall_s, double idle_s, double busy_s) {
    const LiveWindow window = engine.meter.window(engine.now_ns, length * kSecond, false);
    EXPECT_DOUBLE_EQ(window.wall_s, wall_s) << length;
    EXPECT_NEAR(window.idle_s, idle_s, 1e-9) << length;
    EXPECT_DOUBLE_EQ(window.totals[kDecode].busy_ns * 1e-9, busy_s) << length;
  };
  check(60, 60, 57, 1);  // begins in the long pause
  check(9, 9, 7, 1);     // at the step's start: its gap was before
  check(8, 9, 7, 1);     // a step is not split
  check(5, 5, 5, 0);
  EXPECT_EQ(engine.meter.window(engine.now_ns, 60 * kSecond, true).idle_s, 50) << "a step is under way";
}

TEST(LiveMeter, IdleTimeNeverFallsThoughAStepWasTakenForIdleness) {
  Engine engine;
  engine.idle(4 * kSecond);
  EXPECT_DOUBLE_EQ(engine.read(false).idle_s, 4);  // of which the last two were the step's
  engine.now_ns -= 2 * kSecond;
  engine.step(3 * kSecond, 1);
  EXPECT_DOUBLE_EQ(engine.read().idle_s, 4);
  engine.idle(5 * kSecond);
  EXPECT_DOUBLE_EQ(engine.read().idle_s, 7);
}

TEST(LiveMeter, CountersNeverFallWhenWorkProvesInVain) {
  Engine engine;
  engine.step(kSecond, 100);
  EXPECT_EQ(engine.read().totals[kDecode].counts.flops[0], 100);
  engine.step(kSecond, 10, 0, work(100));  // 10 useful FLOPs in all
  LiveReading reading = engine.read();
  EXPECT_EQ(reading.totals[kDecode].counts.flops[0], 100);
  EXPECT_EQ(reading.totals[kDecode].counts.wasted_flops[0], 100);
  engine.step(kSecond, 200);
  reading = engine.read();
  EXPECT_EQ(reading.totals[kDecode].counts.flops[0], 210);
  EXPECT_EQ(reading.totals[kDecode].counts.tokens, 2);
  EXPECT_EQ(reading.totals[kDecode].counts.wasted_tokens, 1);
}

TEST(LiveMeter, StepsAreHandedOutOnceInOrderAndTheOldestAreForgotten) {
  Engine engine;
  for (int i = 1; i <= 5; ++i) engine.step(kSecond, 10 * i);
  const auto all = engine.meter.steps_since(0);
  ASSERT_EQ(all.size(), 5u);
  EXPECT_EQ(all[2].serial, 3);
  EXPECT_EQ(all[2].useful_flops, 30);
  EXPECT_EQ(all[2].min_bytes, 1000);
  EXPECT_EQ(engine.meter.steps_since(4).size(), 1u);
  EXPECT_EQ(engine.meter.steps_since(5).size(), 0u);
  EXPECT_EQ(engine.meter.steps_since(99).size(), 0u);
  for (int i = 0; i < 1000; ++i) engine.step(1, 1);
  const auto kept = engine.meter.steps_since(0);
  ASSERT_EQ(kept.size(), LiveMeter::kNumPoints);
  EXPECT_EQ(kept.front().serial, 1005 - std::ssize(kept) + 1);
  EXPECT_EQ(kept.back().serial, 1005);
}

TEST(LiveMeter, ReadersSeeWholeSteps) {
  Engine engine;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    std::int64_t last_flops = 0, last_serial = 0;
    while (!done) {
      const LiveReading reading = engine.meter.read(77 * kSecond, true);
      const Counts& counts = reading.totals[kDecode].counts;
      EXPECT_EQ(counts.flops[0], 3 * counts.tokens);
      EXPECT_EQ(reading.iteration_tokens.count(), counts.tokens);
      EXPECT_GE(counts.flops[0], std::exchange(last_flops, counts.flops[0]));
      for (const StepPoint& point : engine.meter.steps_since(last_serial)) {
        EXPECT_GT(point.serial, std::exchange(last_serial, point.serial));
        EXPECT_EQ(point.useful_flops, 3);
      }
    }
  });
  for (int i = 0; i < 20'000; ++i) engine.step(kSecond / 100, 3);
  done = true;
  reader.join();
}

TEST(LiveMeter, ItsOwnCostIsThatOfOperationsAndSequences) {
  EXPECT_DOUBLE_EQ((MeterCost{.step_ns = 100, .op_ns = 10, .sequence_ns = 3}.of(20, 5)), 315);
  const MeterCost measured = measure_meter_cost();
  EXPECT_GT(measured.op_ns, 0);
  EXPECT_LT(measured.op_ns, 1e5);
}

}  // namespace
}  // namespace redline::server
