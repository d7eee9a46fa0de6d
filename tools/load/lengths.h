// How long prompts and answers of a load test are.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace redline::load {

/// A distribution of token counts, at least 1.
struct Lengths {
  enum class Kind : std::uint8_t { kFixed, kUniform, kLogNormal };
  Kind kind = Kind::kFixed;
  double first = 1;   // the length; the smallest; the mean
  double second = 0;  // -; the largest; the standard deviation

  /// "512", "uniform:LOW:HIGH" (both included) or "lognormal:MEAN:STDDEV" (of the lengths, not their
  /// logarithms). Throws std::invalid_argument.
  static Lengths parse(const std::string& text);
  std::int64_t draw(std::mt19937_64& random) const;
};

}  // namespace redline::load
