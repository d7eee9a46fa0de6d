#include "tools/redline/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <string_view>

namespace redline {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string short_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

std::string with_default(const char* help, const std::string& value) {
  return value.empty() ? help : help + (" (default: " + value + ")");
}

template <class Number>
Number parse_number(const std::string& text, Number min, Number max) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= min && value <= max))
    throw UsageError("'" + text + "' is no number from " + short_text(static_cast<double>(min)) + " to " +
                     short_text(static_cast<double>(max)));
  return value;
}

/// 1e6 for "M" and "mb", 1048576 for "MiB"; nothing for what is no unit.
std::optional<double> size_unit(std::string suffix) {
  suffix = lower(suffix);
  if (!suffix.empty() && suffix.back() == 'b') suffix.pop_back();
  if (suffix.empty()) return 1.0;
  const auto power = std::string_view("kmg").find(suffix.front());
  if (power == std::string_view::npos || (suffix.size() > 1 && suffix.substr(1) != "i")) return std::nullopt;
  return std::pow(suffix.size() > 1 ? 1024.0 : 1000.0, static_cast<double>(power + 1));
}

std::int64_t parse_size(const std::string& text, std::int64_t min) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = size_unit(std::string(end, text.data() + text.size()));
  const double value = number * unit.value_or(0);
  if (error != std::errc() || !unit || !(value >= 0 && value <= 1e18) || value != std::floor(value))
    throw UsageError("'" + text + "' is no size: a number, or one with K, M, G, KiB, MiB or GiB");
  if (value < static_cast<double>(min)) throw UsageError("'" + text + "' is below " + std::to_string(min));
  return static_cast<std::int64_t>(value);
}

std::vector<std::int64_t> parse_sizes(const std::string& text, std::int64_t min) {
  std::vector<std::int64_t> values;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) values.push_back(parse_size(item, min));
  return values;
}

double parse_duration(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const double seconds = unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "us" ? 1e-6 : 0;
  if (error != std::errc() || !(number * seconds > 0) || !(number * seconds < 1e9))
    throw UsageError("'" + text + "' is no duration above 0 in s, ms or us, such as 50ms");
  return number * seconds;
}

DType parse_dtype(const std::string& text, const std::vector<DType>& allowed) {
  const auto dtype = dtype_from_name(lower(text));
  if (dtype && std::find(allowed.begin(), allowed.end(), *dtype) != allowed.end()) return *dtype;
  std::string names;
  for (const DType type : allowed) names += (names.empty() ? "" : ", ") + std::string(traits(type).name);
  throw UsageError("'" + text + "' is not one of " + names);
}

std::string joined(const std::vector<std::int64_t>& values) {
  std::string text;
  for (const std::int64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

}  // namespace

std::string FlagDescription::environment_name() const {
  std::string name = "REDLINE_";
  for (const char c : long_name())
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

void Flags::add(FlagDescription description, std::function<void(const std::string&)> take) {
  const std::string shown = description.names.substr(
      description.names.find("--") == std::string::npos ? 0 : description.names.find("--"));
  const auto callback = [take = std::move(take), shown](const CLI::results_t& values) {
    try {
      for (const std::string& value : values) take(value);
    } catch (const UsageError& error) {
      throw UsageError(shown + ": " + error.what());
    }
    return true;
  };
  CLI::Option* option = app_.add_option(description.names, callback, description.help);
  if (!description.is_argument()) option->envname(description.environment_name());
  option->type_name(description.value)->type_size(1)->required(description.required);
  if (description.repeatable)
    option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args(description.several_at_once);
  descriptions_.push_back(std::move(description));
}

void Flags::argument(const char* name, const char* help, std::string& target, bool required) {
  add({.names = name, .value = " ", .help = help, .required = required},
      [&target](const std::string& value) { target = value; });
}

void Flags::argument(const char* name, const char* help, std::optional<std::string>& target) {
  add({.names = name, .value = " ", .help = help}, [&target](const std::string& value) { target = value; });
}

void Flags::flag(const char* names, const char* help, bool& target) {
  FlagDescription description;
  description.names = names;
  description.help = help;
  app_.add_flag(description.names, target, description.help)->envname(description.environment_name());
  descriptions_.push_back(std::move(description));
}

void Flags::text(const char* names, const char* value, const char* help, std::string& target) {
  add({.names = names, .value = value, .help = with_default(help, target)},
      [&target](const std::string& text) { target = text; });
}

void Flags::text(const char* names, const char* value, const char* help, std::optional<std::string>& target) {
  add({.names = names, .value = value, .help = help}, [&target](const std::string& text) { target = text; });
}

void Flags::texts(const char* names, const char* value, const char* help, std::vector<std::string>& target,
                  bool several_at_once) {
  add({.names = names, .value = value, .help = help, .repeatable = true, .several_at_once = several_at_once},
      [&target](const std::string& text) { target.push_back(text); });
}

void Flags::number(const char* names, const char* help, float& target, double min, double max) {
  add({.names = names, .value = "X", .help = with_default(help, short_text(static_cast<double>(target)))},
      [&target, min, max](const std::string& text) {
        target = static_cast<float>(parse_number(text, min, max));
      });
}

void Flags::number(const char* names, const char* help, std::optional<double>& target, double min,
                   double max) {
  add({names, "X", help},
      [&target, min, max](const std::string& text) { target = parse_number(text, min, max); });
}

void Flags::number(const char* names, const char* help, std::uint64_t& target) {
  add({.names = names, .value = "N", .help = with_default(help, std::to_string(target))},
      [&target](const std::string& text) {
        target = parse_number<std::uint64_t>(text, 0, std::numeric_limits<std::uint64_t>::max());
      });
}

void Flags::number(const char* names, const char* help, std::int32_t& target, std::int32_t min,
                   std::int32_t max) {
  add({.names = names,
       .value = "N",
       .help = with_default(help, target >= min ? std::to_string(target) : std::string())},
      [&target, min, max](const std::string& text) { target = parse_number(text, min, max); });
}

void Flags::numbers(const char* names, const char* help, std::vector<std::int32_t>& target,
                    std::int32_t min) {
  add({.names = names, .value = "N", .help = help, .repeatable = true},
      [&target, min](const std::string& text) {
        target.push_back(parse_number(text, min, std::numeric_limits<std::int32_t>::max()));
      });
}

void Flags::size(const char* names, const char* help, std::int64_t& target, std::int64_t min) {
  add({.names = names, .value = "SIZE", .help = help},
      [&target, min](const std::string& text) { target = parse_size(text, min); });
}

void Flags::sizes(const char* names, const char* help, std::vector<std::int64_t>& target, std::int64_t min) {
  add({.names = names, .value = "N,..", .help = with_default(help, joined(target))},
      [&target, min](const std::string& text) { target = parse_sizes(text, min); });
}

void Flags::duration(const char* names, const char* help, std::optional<double>& target) {
  add({.names = names, .value = "TIME", .help = help},
      [&target](const std::string& text) { target = parse_duration(text); });
}

void Flags::dtype(const char* names, const char* help, DType& target, std::vector<DType> allowed) {
  add({.names = names, .value = "TYPE", .help = with_default(help, traits(target).name)},
      [&target, allowed](const std::string& text) { target = parse_dtype(text, allowed); });
}

void Flags::dtype(const char* names, const char* help, std::optional<DType>& target) {
  add({.names = names, .value = "TYPE", .help = help}, [&target](const std::string& text) {
    std::vector<DType> all;
    for (int i = 0; i < kNumDTypes; ++i) all.push_back(static_cast<DType>(i));
    target = parse_dtype(text, all);
  });
}

}  // namespace redline
