#include "engine/meter/request_clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace redline {
namespace {

TEST(RequestClock, TheTermsOfALifeAreThoseOfItsSteps) {
  RequestClock clock;
  clock.start(1000, 5000);  // received 100, submitted 400
  clock.add(Phase::kPrefill, 60, 0);
  clock.add(Phase::kDecode, 10, 0);
  clock.preempt(2000, 5300);
  clock.resume(2500, 5420);
  clock.add(Phase::kPrefill, 40, 0.25);
  const RequestTimes times = clock.end(100, 400, 3000, 5800);
  const std::map<RequestTerm, std::int64_t> expected = {
      {RequestTerm::kReading, 300},
      {RequestTerm::kQueued, 600},
      {RequestTerm::kPrefill, 90},
      {RequestTerm::kDecode, 10},
      {RequestTerm::kRecomputation, 10},
      {RequestTerm::kPreempted, 500},
      {RequestTerm::kOthers, 800 - 120 - 110},
      {RequestTerm::kGap, 2900 - 300 - 600 - 110 - 500 - 570}};
  for (const auto& [term, ns] : expected)
    EXPECT_EQ(times[term], ns) << kRequestTermNames[static_cast<std::size_t>(term)];
  EXPECT_EQ(times.sum(), 2900);
}

TEST(RequestClock, WhatNeverRanWasQueued) {
  const RequestTimes times = RequestClock().end(10, 30, 100, 5e9);
  EXPECT_EQ(times[RequestTerm::kReading], 20);
  EXPECT_EQ(times[RequestTerm::kQueued], 70);
  EXPECT_EQ(times.sum(), 90);
}

// One request in a server that is simulated step by step: who ran in each, for how long, is known.
TEST(RequestClock, AgreesWithASimulationThatKnowsWhoRanWhen) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto draw = [&](std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(0, most)(random);
  };
  for (int life = 0; life < 500; ++life) {
    RequestClock clock;
    RequestTimes expected;
    const std::int64_t received_ns = draw(1000);
    std::int64_t now_ns = received_ns + (expected[RequestTerm::kReading] = draw(1000));
    const std::int64_t arrival_ns = now_ns;
    double busy_ns = static_cast<double>(draw(1000));
    bool has_run = false, is_preempted = false;
    for (std::int64_t step = draw(60); step > 0; --step) {
      const std::int64_t gap_ns = draw(50), busy = 10 + draw(100), own = draw(10);
      const bool runs = draw(3) > 0;
      const std::int64_t start_ns = now_ns + gap_ns;
      const auto spend = [&](RequestTerm term, std::int64_t ns) {
        expected[!has_run ? RequestTerm::kQueued : is_preempted ? RequestTerm::kPreempted : term] += ns;
      };
      spend(RequestTerm::kGap, gap_ns);
      if (runs && !has_run) clock.start(start_ns, busy_ns);
      has_run |= runs;
      if (runs && is_preempted) clock.resume(start_ns, busy_ns);
      is_preempted &= !runs;
      if (has_run && !runs && !is_preempted && draw(2) == 0) {
        clock.preempt(start_ns, busy_ns);
        is_preempted = true;
      }
      if (runs) {
        const Phase phase = draw(1) == 0 ? Phase::kPrefill : Phase::kDecode;
        const bool again = phase == Phase::kPrefill && draw(3) == 0;
        clock.add(phase, static_cast<double>(own), again ? 1 : 0);
        expected[again                      ? RequestTerm::kRecomputation
                 : phase == Phase::kPrefill ? RequestTerm::kPrefill
                                            : RequestTerm::kDecode] += own;
      }
      spend(RequestTerm::kOthers, busy - (runs ? own : 0));
      busy_ns += static_cast<double>(busy);
      now_ns = start_ns + busy;
    }
    const std::int64_t last_ns = draw(50);
    expected[!has_run       ? RequestTerm::kQueued
             : is_preempted ? RequestTerm::kPreempted
                            : RequestTerm::kGap] += last_ns;
    now_ns += last_ns;
    const RequestTimes times = clock.end(received_ns, arrival_ns, now_ns, busy_ns);
    EXPECT_EQ(times.ns, expected.ns) << "life " << life;
    EXPECT_EQ(times.sum(), now_ns - received_ns);
  }
}

}  // namespace
}  // namespace redline
