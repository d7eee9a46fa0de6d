// The formats of strings that JSON schemas name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace redline {

/// A regular expression for the whole string; nothing for a format that is not known. Dates exist, in the
/// years 1000 to 2999; the others are what validators agree on, not all that their standards allow.
std::optional<std::string> format_pattern(std::string_view name);
/// Those that are known: "date, time, ..."
std::string format_names();

}  // namespace redline
