#include "tools/load/lengths.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace redline::load {
namespace {

constexpr double kMost = 1 << 24;

}  // namespace

Lengths Lengths::parse(const std::string& text) {
  Lengths lengths;
  int used = 0;
  const auto reads = [&](const char* format, auto*... values) {
    used = 0;
    return std::sscanf(text.c_str(), format, values..., &used) == static_cast<int>(sizeof...(values)) &&
           static_cast<std::size_t>(used) == text.size();
  };
  bool sensible = false;
  if (reads("uniform:%lf:%lf%n", &lengths.first, &lengths.second)) {
    lengths.kind = Kind::kUniform;
    sensible = lengths.first >= 1 && lengths.second >= lengths.first && lengths.second <= kMost;
  } else if (reads("lognormal:%lf:%lf%n", &lengths.first, &lengths.second)) {
    lengths.kind = Kind::kLogNormal;
    sensible = lengths.first >= 1 && lengths.second >= 0 && lengths.first + lengths.second <= kMost;
  } else if (reads("%lf%n", &lengths.first)) {
    sensible = lengths.first >= 1 && lengths.first <= kMost && lengths.first == std::floor(lengths.first);
  }
  if (!sensible)
    throw std::invalid_argument("'" + text + "' is no length: N, uniform:LOW:HIGH or lognormal:MEAN:STDDEV");
  return lengths;
}

std::int64_t Lengths::draw(std::mt19937_64& random) const {
  switch (kind) {
    case Kind::kFixed:
      return static_cast<std::int64_t>(first);
    case Kind::kUniform:
      return std::uniform_int_distribution(static_cast<std::int64_t>(first),
                                           static_cast<std::int64_t>(second))(random);
    case Kind::kLogNormal: {
      // Of a variable with mean m and deviation s: the logarithm's variance is ln(1 + s^2 / m^2).
      const double variance = std::log1p(second * second / (first * first));
      const double drawn =
          std::lognormal_distribution(std::log(first) - variance / 2, std::sqrt(variance))(random);
      return std::max<std::int64_t>(1, std::llround(std::min(drawn, kMost)));
    }
  }
  return 1;
}

}  // namespace redline::load
