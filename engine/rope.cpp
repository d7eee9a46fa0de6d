#include "engine/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/check.h"

namespace redline {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Long wavelengths are stretched by `factor`, short ones kept, those between blended linearly in frequency.
double llama3_frequency(double frequency, const RopeScaling& s) {
  const double wavelength = kTwoPi / frequency;
  const double original = static_cast<double>(s.original_max_positions);
  if (wavelength < original / s.high_freq_factor) return frequency;
  if (wavelength > original / s.low_freq_factor) return frequency / s.factor;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

// The (fractional) dimension pair that turns `rotations` times within the original context.
double yarn_dimension(double rotations, const ModelConfig& c) {
  const double original = static_cast<double>(c.rope_scaling.original_max_positions);
  return static_cast<double>(c.rotary_dim) * std::log(original / (rotations * kTwoPi)) /
         (2 * std::log(c.rope_theta));
}

void scale_yarn(std::vector<double>& frequencies, const ModelConfig& c) {
  const RopeScaling& s = c.rope_scaling;
  double low = yarn_dimension(s.beta_fast, c), high = yarn_dimension(s.beta_slow, c);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(c.rotary_dim - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / s.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config, std::int64_t max_context) {
  const RopeScaling& s = config.rope_scaling;
  const auto half = static_cast<std::size_t>(config.rotary_dim / 2);
  std::vector<double> frequencies(half);
  for (std::size_t i = 0; i < half; ++i)
    frequencies[i] =
        std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim));
  if (max_context == 0) max_context = config.max_positions;
  const auto divide = [&](const std::vector<float>& divisors) {
    REDLINE_CHECK(divisors.size() == half, "a divisor for every rotary pair");
    for (std::size_t i = 0; i < half; ++i) frequencies[i] /= static_cast<double>(divisors[i]);
  };
  if (!s.frequency_divisors.empty()) divide(s.frequency_divisors);
  switch (s.type) {
    case RopeType::kPlain:
      break;
    case RopeType::kLinear:
      for (double& f : frequencies) f /= s.factor;
      break;
    case RopeType::kLlama3:
      for (double& f : frequencies) f = llama3_frequency(f, s);
      break;
    case RopeType::kYarn:
      scale_yarn(frequencies, config);
      attention_factor_ = static_cast<float>(s.attention_factor > 0 ? s.attention_factor
                                             : s.factor > 1         ? 0.1 * std::log(s.factor) + 1
                                                                    : 1.0);
      break;
    case RopeType::kLongRope:
      divide(max_context > s.original_max_positions ? s.long_divisors : s.short_divisors);
      attention_factor_ = static_cast<float>(s.attention_factor);
      break;
  }
  inverse_frequencies_.assign(frequencies.begin(), frequencies.end());
}

RopeView RopeTable::view(std::int64_t num_positions) {
  const std::size_t half = inverse_frequencies_.size();
  const auto wanted = static_cast<std::size_t>(num_positions);
  std::size_t position = half ? cos_.size() / half : wanted;
  if (position < wanted) {
    const std::size_t grown = std::max(wanted, position * 2);
    cos_.reserve(grown * half);
    sin_.reserve(grown * half);
    for (; position < wanted; ++position)
      for (const float frequency : inverse_frequencies_) {
        const double angle = static_cast<double>(static_cast<float>(position) * frequency);
        cos_.push_back(attention_factor_ * static_cast<float>(std::cos(angle)));
        sin_.push_back(attention_factor_ * static_cast<float>(std::sin(angle)));
      }
  }
  return {cos_.data(), sin_.data(), num_positions, static_cast<int>(2 * half)};
}

}  // namespace redline
