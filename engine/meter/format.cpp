#include "engine/meter/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace redline {
namespace {

std::string fixed(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

// Digits after the point that leave `significant` in all.
int decimals_for(double value, int significant) {
  if (value == 0) return significant - 1;
  const int magnitude = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
  return std::clamp(significant - 1 - magnitude, 0, 12);
}

std::string three_digits(double value) {
  const int decimals = decimals_for(value, 3);
  const double unit = std::pow(10.0, decimals);
  return fixed(value, decimals_for(std::round(value * unit) / unit, 3));  // 9.996 is 10.0, not 10.00
}

std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string format_number(double value) {
  if (!std::isfinite(value)) return kUnknownText;
  if (std::abs(value) >= 1000) return format_count(std::llround(value));
  return three_digits(value);
}

std::string format_si(double value, const std::string& unit) {
  static constexpr std::array<const char*, 7> kPrefixes = {"", "k", "M", "G", "T", "P", "E"};
  if (!std::isfinite(value)) return kUnknownText;
  std::size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    value /= 1000;
    ++prefix;
  }
  std::string text = three_digits(value);
  if (prefix > 0 || !unit.empty()) text.append(" ").append(kPrefixes[prefix]).append(unit);
  return text;
}

std::string format_percent(double ratio) {
  if (!std::isfinite(ratio)) return kUnknownText;
  const double percent = 100 * ratio;
  return fixed(percent, std::abs(percent) < 0.995 ? decimals_for(percent, 2) : 1) + " %";
}

std::string format_count(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::ptrdiff_t first = value < 0 ? 1 : 0;
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3)
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return kUnknownText;
  if (seconds < 0.9995e-6) return three_digits(seconds * 1e9) + " ns";
  if (seconds < 0.9995e-3) return three_digits(seconds * 1e6) + " µs";
  if (seconds < 0.9995) return three_digits(seconds * 1e3) + " ms";
  if (seconds < 119.5) return three_digits(seconds) + " s";
  if (seconds < 119.5 * 60) return fixed(seconds / 60, 0) + " min";
  if (seconds < 47.5 * 3600) return fixed(seconds / 3600, 0) + " h";
  return fixed(seconds / 86400, 0) + " days";
}

std::string format_table(const std::vector<std::vector<std::string>>& rows, const std::string& indent) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line = indent;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      if (i > 0) line.append("  ").append(padding);
      line.append(row[i]);
      if (i == 0) line.append(padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace redline
