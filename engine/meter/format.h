// Numbers for people: three significant digits, SI prefixes, tables that line up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace redline {

/// What reports print where nothing is known.
inline constexpr const char* kUnknownText = "–";

/// Three significant digits, no prefix: "0.0123", "1.90", "30.5", "131", "12,345".
std::string format_number(double value);
/// With an SI prefix: format_si(4.35e10, "FLOP/s") is "43.5 GFLOP/s", format_si(2e9, "") "2.00 G".
std::string format_si(double value, const std::string& unit);
/// "21.4 %" from 0.214; below 1 % two significant digits.
std::string format_percent(double ratio);
/// With thousands separated: "1,234,567".
std::string format_count(std::int64_t value);
/// "850 ns", "183 ms", "4.21 s", "3 min", "5 h", "2 days".
std::string format_duration(double seconds);

/// `format(*value)`, or kUnknownText.
template <class Format>
std::string format_if_known(const std::optional<double>& value, Format&& format) {
  return value ? format(*value) : std::string(kUnknownText);
}

/// Rows as lines: columns padded to one width (in code points), two spaces between, the first aligned left
/// and the others right. Every line ends in a newline; no trailing spaces.
std::string format_table(const std::vector<std::vector<std::string>>& rows, const std::string& indent = "");

}  // namespace redline
