#include "engine/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace redline {
namespace {

ModelConfig config_of(RopeScaling scaling, double theta = 10000) {
  ModelConfig config;
  config.head_dim = config.rotary_dim = 8;
  config.rope_theta = theta;
  config.rope_scaling = scaling;
  return config;
}

TEST(Rope, AnglesArePositionTimesAFallingFrequency) {
  RopeTable table(config_of({}));
  const RopeView view = table.view(100);
  ASSERT_EQ(view.rotary_dim, 8);
  for (int p : {0, 1, 17, 99})
    for (int i = 0; i < 4; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / 8);
      EXPECT_NEAR(view.cos[p * 4 + i], std::cos(angle), 1e-5);
      EXPECT_NEAR(view.sin[p * 4 + i], std::sin(angle), 1e-5);
    }
}

TEST(Rope, GrowingKeepsEarlierRows) {
  RopeTable grown(config_of({})), whole(config_of({}));
  grown.view(3);
  grown.view(40);
  const RopeView a = grown.view(41), b = whole.view(41);
  for (int i = 0; i < 41 * 4; ++i) ASSERT_EQ(a.cos[i], b.cos[i]) << i;
}

TEST(Rope, LinearScalingStretchesEveryFrequency) {
  const RopeTable plain(config_of({})), linear(config_of({.type = RopeType::kLinear, .factor = 4}));
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_FLOAT_EQ(linear.inverse_frequencies()[i], plain.inverse_frequencies()[i] / 4);
}

TEST(Rope, Llama3KeepsShortWavesAndStretchesLongOnes) {
  const RopeScaling scaling{.type = RopeType::kLlama3,
                            .factor = 8,
                            .original_max_positions = 64,
                            .low_freq_factor = 1,
                            .high_freq_factor = 4};
  const RopeTable plain(config_of({})), scaled(config_of(scaling));
  const auto& f = plain.inverse_frequencies();
  EXPECT_FLOAT_EQ(scaled.inverse_frequencies()[0], f[0]) << "wavelength 6.3 < 64 / 4";
  EXPECT_FLOAT_EQ(scaled.inverse_frequencies()[3], f[3] / 8) << "wavelength 6283 > 64";
  // wavelength 62.8, between: smooth = (64 / 62.83 - 1) / 3
  const double smooth = (64 * static_cast<double>(f[1]) / 6.283185307 - 1) / 3;
  EXPECT_NEAR(scaled.inverse_frequencies()[1], (1 - smooth) * f[1] / 8 + smooth * f[1], 1e-7);
}

TEST(Rope, YarnKeepsFastDimensionsStretchesSlowOnesAndScales) {
  const RopeScaling scaling{.type = RopeType::kYarn, .factor = 4, .original_max_positions = 64};
  const RopeTable plain(config_of({})), scaled(config_of(scaling));
  EXPECT_FLOAT_EQ(scaled.inverse_frequencies()[0], plain.inverse_frequencies()[0]);
  EXPECT_FLOAT_EQ(scaled.inverse_frequencies()[3], plain.inverse_frequencies()[3] / 4);
  EXPECT_FLOAT_EQ(scaled.attention_factor(), static_cast<float>(0.1 * std::log(4.0) + 1));
  RopeTable table(config_of(scaling));
  EXPECT_FLOAT_EQ(table.view(1).cos[0], scaled.attention_factor());
}

TEST(Rope, DivisorsOfAFileApply) {
  const RopeTable plain(config_of({})), divided(config_of({.frequency_divisors = {1, 2, 4, 8}}));
  EXPECT_FLOAT_EQ(divided.inverse_frequencies()[2], plain.inverse_frequencies()[2] / 4);
}

TEST(Rope, LongRopeDividesByTheContextsFactorsAndScales) {
  const RopeScaling scaling{.type = RopeType::kLongRope,
                            .original_max_positions = 64,
                            .attention_factor = 1.25,
                            .short_divisors = {1, 2, 3, 4},
                            .long_divisors = {5, 6, 7, 8}};
  const RopeTable plain(config_of({})), shorter(config_of(scaling), 64), longer(config_of(scaling), 65);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(shorter.inverse_frequencies()[i],
                    plain.inverse_frequencies()[i] / static_cast<float>(i + 1));
    EXPECT_FLOAT_EQ(longer.inverse_frequencies()[i],
                    plain.inverse_frequencies()[i] / static_cast<float>(i + 5));
  }
  EXPECT_EQ(longer.attention_factor(), 1.25f);
}

}  // namespace
}  // namespace redline
