// Python's three ways to put values into a text: str.format, the % operator, and padding to a width.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/chat_template/value.h"

namespace redline::jinja {

/// "{} {0} {name} {0.attribute[item]!r:>8.3f}".format(*arguments). Fields within a specification ("{:{}}"),
/// and "n" and "c" as types, are not supported: a Failure that says so.
std::string format_braces(std::string_view format, Arguments& arguments, Budget& budget);

/// "%s %5.2f %(name)d" % value: a tuple's items in turn, a mapping's by name, or one value.
std::string format_percent(std::string_view format, const Value& value, Budget& budget);

/// `text` with `fill` around it, up to `width` characters: '<' puts the text left, '>' right, '^' in the
/// middle with what is odd to the right, '=' in the middle as str.center does it.
std::string padded(std::string_view text, std::string_view fill, char align, std::int64_t width,
                   Budget& budget);

}  // namespace redline::jinja
