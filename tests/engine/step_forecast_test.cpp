#include "engine/meter/step_forecast.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/engine/estimated_llama.h"

namespace redline {
namespace {

Estimate estimate() {
  return {small_llama(), stored_weights(small_llama(), DType::kBF16), DType::kBF16, Estimate::bf16_compute};
}

StepLoad load_of(std::int64_t num_decodes, std::int64_t depth, std::int64_t num_prompt_tokens = 0,
                 std::int64_t num_cached = 0) {
  StepLoad load;
  for (std::int64_t i = 0; i < num_decodes; ++i) load.add_decode(depth);
  if (num_prompt_tokens > 0) load.add_chunk(num_prompt_tokens, num_cached);
  return load;
}

TEST(StepForecast, BeginsWithTheStepModelAtAShareOfTheRoofline) {
  const Peaks peaks = peaks_at(2e12, 5e10);
  const StepForecast forecast(estimate(), peaks);
  EXPECT_NEAR(forecast.seconds(load_of(4, 300)), verdict(estimate().decode(4, 300), peaks)->time_s() / 0.3,
              1e-12);
  EXPECT_NEAR(forecast.seconds(load_of(0, 0, 256, 100)),
              verdict(estimate().prefill(256, 100), peaks)->time_s() / 0.3, 1e-12);
  EXPECT_NEAR(forecast.least_s(), verdict(estimate().decode(1, 0), peaks)->time_s(), 1e-15);
}

// A device that is slower in decode and slower still with prompts, and noisy.
TEST(StepForecast, LearnsADeviceItDoesNotKnow) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  const Peaks peaks = peaks_at(2e12, 5e10);
  const StepForecast ideal(estimate(), peaks);
  const auto device_s = [&](const StepLoad& load) {
    StepLoad decodes = load;
    decodes.num_prompts = decodes.num_prompt_tokens = decodes.num_prompt_cached = 0;
    const double decode_s = ideal.seconds(decodes);
    return 0.6 * decode_s + 2.5 * (ideal.seconds(load) - decode_s);
  };
  StepForecast forecast(estimate(), peaks);
  for (int i = 0; i < 60; ++i) {
    const StepLoad load =
        i % 3 == 0 ? load_of(i % 7, 200 + i, 256, 256 * (i % 2)) : load_of(1 + i % 7, 200 + i);
    forecast.learn(load, device_s(load) * noise(random));
  }
  forecast.learn(load_of(3, 200), 1000 * device_s(load_of(3, 200)));  // the machine did something else
  for (int i = 0; i < 30; ++i) {
    forecast.learn(load_of(5, 300), device_s(load_of(5, 300)) * noise(random));
    forecast.learn(load_of(5, 300, 256), device_s(load_of(5, 300, 256)) * noise(random));
  }
  for (const StepLoad& load : {load_of(4, 300), load_of(4, 300, 128, 64), load_of(0, 0, 512)})
    EXPECT_NEAR(forecast.seconds(load) / device_s(load), 1, 0.07);
}

TEST(StepForecast, MoreOfAnythingTakesNoLess) {
  StepForecast forecast(estimate(), peaks_at(2e12, 5e10));
  forecast.learn(load_of(8, 100), 0.01);
  forecast.learn(load_of(8, 100, 512), 0.2);
  double before = 0;
  for (const std::int64_t tokens : {0, 1, 2, 15, 16, 100, 511}) {
    const double seconds = forecast.seconds(load_of(8, 100, tokens, 77));
    EXPECT_GE(seconds, before);
    before = seconds;
  }
  EXPECT_GT(forecast.seconds(load_of(9, 100)), forecast.seconds(load_of(8, 100)));
  EXPECT_GT(forecast.seconds(load_of(8, 900)), forecast.seconds(load_of(8, 100)));
  EXPECT_THROW(StepForecast(estimate(), peaks_at(0, 0)), std::runtime_error);
}

}  // namespace
}  // namespace redline
