#include "engine/meter/baseline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/meter/samples.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

TEST(Samples, SmallTestsAreExact) {
  const std::vector<double> low{1, 2, 3, 4, 5}, high{6, 7, 8, 9, 10};
  EXPECT_NEAR(p_of_lower(high, low), 1.0 / 252, 1e-12) << "one of the ways to choose 5 of 10";
  EXPECT_NEAR(p_of_lower(low, high), 1, 1e-12);
  EXPECT_NEAR(p_of_lower(std::vector<double>{1, 3}, std::vector<double>{2}), 2. / 3, 1e-12);
  EXPECT_NEAR(least_p(5, 5), 1.0 / 252, 1e-12);
  EXPECT_EQ(p_of_lower(low, {}), 1);
  EXPECT_GT(p_of_lower(std::vector<double>(9, 3.0), std::vector<double>(9, 3.0)), 0.4) << "ties tell nothing";
}

TEST(Samples, TheNormalApproximationJoinsTheExactTest) {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> before(40), after(40);
  for (double& x : before) x = normal(random);
  for (double& x : after) x = normal(random) - 0.4;
  const double exact = p_of_lower(before, after);
  before.push_back(before.back());  // a tie: no longer exact
  EXPECT_NEAR(std::log(p_of_lower(before, after) / exact), 0, 0.3) << "but for the measurement more";
}

TEST(Samples, HolmsCorrectionIsItsTextbooks) {
  EXPECT_EQ(holm({0.01, 0.04, 0.03, 0.005}), (std::vector<double>{0.03, 0.06, 0.06, 0.02}));
  EXPECT_EQ(holm({0.9, 0.8}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm({}).empty());
}

TEST(Samples, IntervalsOfMediansHoldThem) {
  EXPECT_FALSE(median_interval({1, 2, 3, 4, 5})) << "32 cases are too few for one in 40";
  const auto six = median_interval({6, 1, 2, 5, 4, 3});
  ASSERT_TRUE(six);
  EXPECT_EQ(six->low, 1);
  EXPECT_EQ(six->high, 6);
  EXPECT_EQ(six->median, 3.5);
  EXPECT_EQ(median_interval({1, 2, 3, 4, 5, 6, 7, 8, 9, 10})->low, 2) << "tables of the sign test";
  std::mt19937 random(11);
  std::exponential_distribution<double> skewed;
  int held = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<double> sample(10);
    for (double& x : sample) x = skewed(random);
    const auto interval = median_interval(sample);
    held += interval->low <= std::log(2) && std::log(2) <= interval->high;
  }
  EXPECT_GE(held, 0.95 * 2000);
}

/// Rows as bench prints them: batches and depths at some rates, each repetition off by a few per cent.
struct FakeBench {
  std::mt19937 random;
  double noise = 0.03, slower = 1;
  int repetitions = 10;

  Json row(std::int64_t batch, std::int64_t depth, std::int64_t prompt = 0) {
    std::normal_distribution<double> around(1, noise);
    Json rates = Json::array();
    double sum = 0;
    for (int i = 0; i < repetitions; ++i) {
      rates.push_back(100 * static_cast<double>(batch) / slower * around(random));
      sum += rates.back().get<double>();
    }
    const double mean = sum / repetitions;
    return {{"n_prompt", prompt},
            {"n_gen", prompt > 0 ? 0 : 32},
            {"n_depth", depth},
            {"batch", batch},
            {"dtype", "q8_0"},
            {"device", "A device"},
            {"model", "m"},
            {"avg_ts", mean},
            {"samples_ts", rates},
            {"utilization", {{"mfu", mean / 2000}, {"mbu", mean / 200 / static_cast<double>(batch)}}}};
  }
  Baseline run(const std::vector<std::pair<std::int64_t, std::int64_t>>& shapes) {
    Baseline baseline;
    for (const auto& [batch, depth] : shapes)
      add_run(baseline, Json::array({row(batch, depth), row(batch, depth, 512)}));
    return baseline;
  }
};

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes{{1, 0}, {8, 0}, {8, 1000}, {32, 1000}};

bool regressed(const std::vector<BaselineFinding>& findings) {
  return std::ranges::any_of(findings,
                             [](const auto& each) { return each.verdict == BaselineVerdict::kRegressed; });
}

TEST(Baseline, FindsADeviceThatBecameAFifthSlower) {
  FakeBench bench{std::mt19937(3)};
  const Baseline before = bench.run(kShapes);
  bench.slower = 1.2;
  const auto findings = check(before, bench.run(kShapes), {});
  ASSERT_EQ(findings.size(), 8u);
  for (const BaselineFinding& each : findings) {
    EXPECT_EQ(each.verdict, BaselineVerdict::kRegressed) << each.figure << " " << each.chance;
    EXPECT_NEAR(each.worse_by, 1 - 1 / 1.2, 0.05);
    EXPECT_EQ(each.figure, each.key.phase == "prefill" ? "mfu" : "mbu");
  }
}

TEST(Baseline, AnotherMixOfTrafficIsNoChange) {
  FakeBench bench{std::mt19937(4)};
  const Baseline before = bench.run(kShapes);
  const auto few = check(before, bench.run({{1, 0}, {128, 4000}, {2, 9000}}), {});
  EXPECT_EQ(few.size(), 2u) << "what is in both";
  EXPECT_FALSE(regressed(few));
  EXPECT_TRUE(check(before, bench.run({{64, 0}}), {}).empty());
}

TEST(Baseline, NoiseAloneRaisesFewAlarms) {
  FakeBench bench{std::mt19937(5), 0.1};
  int alarms = 0;
  constexpr int kTrials = 1000;
  for (int trial = 0; trial < kTrials; ++trial)
    alarms += regressed(check(bench.run(kShapes), bench.run(kShapes), {.chance = 0.05, .least_effect = 0}));
  EXPECT_LE(alarms, 0.07 * kTrials) << "of the 5 % of checks that may raise any";
  EXPECT_GT(alarms, 0) << "else the test would find nothing";
}

TEST(Baseline, ASmallEffectIsNoRegressionHoweverSure) {
  FakeBench bench{std::mt19937(6), 0.001};
  const Baseline before = bench.run(kShapes);
  bench.slower = 1.02;
  const auto findings = check(before, bench.run(kShapes), {});
  EXPECT_FALSE(regressed(findings));
  EXPECT_LT(findings.front().chance, 0.01);
  EXPECT_TRUE(regressed(check(before, bench.run(kShapes), {.chance = 0.05, .least_effect = 0.01})));
}

TEST(Baseline, TooFewMeasurementsAreSaidToBe) {
  FakeBench bench{std::mt19937(7), 0.01, 1, 3};
  const Baseline before = bench.run(kShapes);
  bench.slower = 2;
  for (const BaselineFinding& each : check(before, bench.run(kShapes), {}))
    EXPECT_EQ(each.verdict, BaselineVerdict::kTooFew);
}

TEST(Baseline, SurvivesItsFileAndRefusesOthers) {
  FakeBench bench{std::mt19937(8)};
  Baseline baseline = bench.run(kShapes);
  const Json load{{"model_id", "m"},
                  {"start_times", {0, 0.1, 5}},
                  {"ttfts", {0.5, 0.6, 0.2}},
                  {"input_lens", {100, 127, 90}},
                  {"itls", {{0.1, 0.3}, {0.2}, Json::array()}}};
  add_run(baseline, load);
  const BaselineSamples& together = baseline.at({"m", "unknown", "unknown", "load", 2, 64});
  EXPECT_EQ(together.at("ttft_s"), std::vector{0.6});
  EXPECT_NEAR(baseline.at({"m", "unknown", "unknown", "load", 1, 64}).at("tpot_s").at(0), 0.2, 1e-12);
  const Json json = to_json(baseline);
  EXPECT_EQ(to_json(baseline_from_json(Json::parse(json.dump()))).dump(), json.dump());
  EXPECT_THROW(baseline_from_json(Json::array()), std::runtime_error);
  EXPECT_THROW(add_run(baseline, Json{{"text", "of another command"}}), std::runtime_error);
  EXPECT_EQ(bucket_of(0), 0);
  EXPECT_EQ(bucket_of(1), 1);
  EXPECT_EQ(bucket_of(1023), 512);
}

}  // namespace
}  // namespace redline
