// The figures of docs/accounting.md, "Cost", recomputed.
#include "engine/meter/economics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

TEST(Economics, AThirdOfAThousandDevicesIsSavedFrom20To30PercentMfu) {
  const MfuChange change{.devices = 1000, .mfu_from = 0.20, .mfu_to = 0.30, .price_per_hour = 3};
  EXPECT_NEAR(change.devices_saved(), 333, 0.5);
  EXPECT_NEAR(change.saved_per_hour(), 1000, 0.5);
  EXPECT_NEAR(change.saved_per_year(), 8.8e6, 0.05e6);
}

TEST(Economics, ARelativeGainOfTenPercentSavesNinePointOne) {
  const MfuChange change{.devices = 1, .mfu_from = 0.30, .mfu_to = 0.33, .price_per_hour = 1};
  EXPECT_NEAR(change.share_saved(), 0.0909, 0.00005);
}

// A run of a second and a half: prefill 0.5 s, decode 0.8 s, idle 0.2 s.
Json run_of(std::int64_t prompt_tokens, std::int64_t generated_tokens) {
  const auto phase = [](std::int64_t steps, std::int64_t tokens, double wall_s, double flops) {
    return Json{{"steps", steps},
                {"tokens", tokens},
                {"wall_s", wall_s},
                {"flops", {{"useful", flops}}},
                {"mfu_peak_flops_per_s", 1e12}};
  };
  return {{"prompt_token_ids", std::vector<int>(static_cast<std::size_t>(prompt_tokens))},
          {"token_ids", std::vector<int>(static_cast<std::size_t>(generated_tokens))},
          {"utilization",
           {{"wall_s", 1.5},
            {"phases",
             {{"prefill", phase(1, prompt_tokens, 0.5, 2e11)},
              {"decode", phase(generated_tokens - 1, generated_tokens - 1, 0.8, 1e11)}}}}}};
}

TEST(Economics, PartsSumToTheRunsCostAndIdleIsChargedToNoToken) {
  const MeasuredRun run = measured_run(run_of(1000, 40));
  const RunCost cost = cost_of(run, 3.6, 2);  // 0.002 a second
  EXPECT_DOUBLE_EQ(cost.total, 0.003);
  EXPECT_NEAR(cost.input + cost.output + cost.idle, cost.total, 1e-15);
  EXPECT_NEAR(cost.idle, 0.0004, 1e-12);
  EXPECT_DOUBLE_EQ(*cost.per_million_input, 0.001 / 1000 * 1e6);
  EXPECT_DOUBLE_EQ(*cost.per_million_output, 0.0016 / 40 * 1e6);
  EXPECT_DOUBLE_EQ(*cost.per_million_delivered, 0.003 / 40 * 1e6);
  EXPECT_FALSE(cost_of({.wall_s = 1, .prefill_s = 1}, 1).per_million_output) << "none was delivered";
}

TEST(Economics, TheIdentityWithMfuHoldsOverWallTimeOnly) {
  const MeasuredRun run = measured_run(run_of(1000, 40));
  EXPECT_DOUBLE_EQ(*run.mfu, 0.2);
  const double flops_per_token = 3e11 / 40, cost = cost_per_token(3.6, flops_per_token, *run.mfu, 1e12);
  EXPECT_NEAR(cost * 1e6, *cost_of(run, 3.6).per_million_delivered, 1e-9);
  const double busy_mfu = 0.3 / 1.3;
  EXPECT_LT(cost_per_token(3.6, flops_per_token, busy_mfu, 1e12), cost) << "idle time is paid for as well";
}

TEST(Economics, ALoadNeedsTheDevicesThatItsTokensKeepBusy) {
  const MeasuredRun run = measured_run(run_of(1000, 40));  // 0.5 ms an input, 20 ms an output token
  EXPECT_DOUBLE_EQ(*devices_needed(run, 2000, 100), 1 + 2);
  EXPECT_DOUBLE_EQ(*devices_needed(run, 2000, 100, 0.6), 5);
  EXPECT_FALSE(devices_needed({.wall_s = 1, .decode_s = 1, .output_tokens = 5}, 10, 1));
}

TEST(Economics, RowsOfABenchAreOneRun) {
  Json rows = Json::array();
  for (const bool prefill : {true, false})
    rows.push_back({{"n_prompt", prefill ? 64 : 0},
                    {"utilization",
                     {{"steps", 2},
                      {"tokens", prefill ? 128 : 32},
                      {"wall_s", prefill ? 0.4 : 0.6},
                      {"flops", {{"useful", 1e11}}},
                      {"mfu_peak_flops_per_s", 1e12}}}});
  const MeasuredRun run = measured_run(rows);
  EXPECT_EQ(run.input_tokens, 128);
  EXPECT_EQ(run.output_tokens, 32);
  EXPECT_DOUBLE_EQ(run.idle_s(), 0);
  EXPECT_DOUBLE_EQ(*run.mfu, 0.2);
}

TEST(Economics, WhatIsNoRunSaysWhatIsMissing) {
  const auto refusal = [](const Json& json) {
    try {
      measured_run(json);
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refusal(Json::object()).find("utilization"), std::string::npos);
  EXPECT_NE(refusal({{"utilization", {{"phases", 3}}}}).find("prefill"), std::string::npos);
  Json text = run_of(1, 2);
  text["utilization"]["wall_s"] = "long";
  EXPECT_NE(refusal(text).find("long"), std::string::npos);
}

}  // namespace
}  // namespace redline
