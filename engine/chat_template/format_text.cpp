#include "engine/chat_template/format_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

#include "engine/chat_template/operators.h"
#include "engine/chat_template/python_text.h"

namespace redline::jinja {
namespace {

constexpr std::int64_t kMaxPrecision = 300;

// What "*>+#010,.3f" says.
struct Specification {
  std::string fill = " ";
  char align = 0;  // 0: by the value's type
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = 0;
  std::int64_t precision = -1;
  char type = 0;
};

// A number at the front of `text`, taken off; -1 where there is none.
std::int64_t take_number(std::string_view& text) {
  std::int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || text[0] < '0' || text[0] > '9') return -1;
  if (error != std::errc()) fail("a format's number is too large");
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view one_of, char& taken) {
  if (text.empty() || one_of.find(text[0]) == one_of.npos) return false;
  taken = text[0];
  text.remove_prefix(1);
  return true;
}

Specification read_specification(std::string_view text) {
  constexpr std::string_view kAligns = "<>=^";
  const std::string whole(text);
  Specification spec;
  char flag = 0;
  const std::size_t first = text.empty() ? 0 : characters(text.substr(0, 4))[0].size();
  if (first > 0 && first < text.size() && kAligns.find(text[first]) != kAligns.npos) {
    spec.fill = text.substr(0, first);
    text.remove_prefix(first);
  }
  take(text, kAligns, spec.align);
  take(text, "+- ", spec.sign);
  spec.alternate = take(text, "#", flag);
  if (take(text, "0", flag)) {
    if (spec.align == 0) spec.align = '=';
    if (spec.fill == " ") spec.fill = "0";
  }
  spec.width = std::max<std::int64_t>(take_number(text), 0);
  take(text, ",_", spec.grouping);
  if (take(text, ".", flag)) {
    spec.precision = take_number(text);
    if (spec.precision < 0) fail("Format specifier missing precision");
  }
  take(text, "bdoxXeEfFgGs%", spec.type);
  if (!text.empty()) fail("the format '" + whole.substr(0, 40) + "' is not supported");
  return spec;
}

std::string grouped(const std::string& digits, char separator, std::size_t size) {
  if (separator == 0) return digits;
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out;
}

// |value| in C's notation `type` (e, f, g or an upper case of them).
std::string float_digits(double value, const Specification& spec) {
  if (spec.precision > kMaxPrecision) fail("a format's precision is too large");
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  const char type = spec.type == '%' ? 'f' : spec.type;
  const char format[] = {'%', spec.alternate ? '#' : '+', '.', '*', type, '\0'};
  char digits[800];
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  std::snprintf(digits, sizeof digits, format, precision, value);
  return digits[0] == '+' ? digits + 1 : digits;
}

// The number's sign and prefix, then its digits.
std::pair<std::string, std::string> number_parts(const Value& value, const Specification& spec) {
  const bool is_float =
      !value.is_integer() ||
      (spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos);
  std::string digits, prefix;
  bool negative = false;
  if (is_float) {
    double number = value.number("a format");
    negative = std::signbit(number) && !std::isnan(number);
    number = std::abs(spec.type == '%' ? number * 100 : number);
    if (spec.type == 0 && spec.precision >= 0) fail("a float's precision without a type is not supported");
    digits = spec.type == 0 ? float_repr(number) : float_digits(number, spec);
    const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = grouped(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
    if (spec.type == '%') digits += '%';
  } else {
    if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
    const std::int64_t number = value.integer("a format");
    negative = number < 0;
    const int base = spec.type == 'b'                       ? 2
                     : spec.type == 'o'                     ? 8
                     : spec.type == 'x' || spec.type == 'X' ? 16
                                                            : 10;
    char buffer[72];
    const std::uint64_t magnitude =
        negative ? -static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    digits.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
    if (spec.type == 'X') digits = upper(digits);
    digits = grouped(digits, spec.grouping, base == 10 ? 3 : 4);
    if (spec.alternate && base != 10) (prefix = "0") += spec.type;
  }
  return {(negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign)) + prefix, digits};
}

std::string formatted(const Value& value, const Specification& spec, Budget& budget) {
  if (const std::string* given = value.text()) {
    if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.sign != '-')
      fail("the format does not fit a string");
    std::string text = *given;
    if (spec.precision >= 0) {
      const auto parts = characters(text);
      if (static_cast<std::int64_t>(parts.size()) > spec.precision)
        text.resize(
            static_cast<std::size_t>(parts[static_cast<std::size_t>(spec.precision)].data() - text.data()));
    }
    return padded(text, spec.fill, spec.align ? spec.align : '<', spec.width, budget);
  }
  value.require_defined();
  if (!value.is_number() || spec.type == 's')
    fail(std::string("the format does not fit a '") + value.type_name() + "'");
  const auto [sign, digits] = number_parts(value, spec);
  if (spec.align != '=')
    return padded(sign + digits, spec.fill, spec.align ? spec.align : '>', spec.width, budget);
  return sign + padded(digits, spec.fill, '>', spec.width - static_cast<std::int64_t>(sign.size()), budget);
}

// The value of a field's name: "", "0", "name", with ".attribute" and "[item]" behind it.
Value field_value(std::string_view name, Arguments& arguments, std::size_t& next, Budget& budget) {
  const std::size_t end = std::min(name.find_first_of(".["), name.size());
  std::string_view first = name.substr(0, end), rest = name.substr(end);
  const std::string key(first);
  const std::int64_t number = take_number(first);
  const bool by_place = key.empty() || (number >= 0 && first.empty());
  const std::size_t place =
      key.empty() ? next++ : static_cast<std::size_t>(std::max<std::int64_t>(number, 0));
  if (by_place && place >= arguments.values.size())
    fail("Replacement index " + std::to_string(place) + " out of range for positional args tuple");
  const Value* found = by_place ? &arguments.values[place] : arguments.find_named(key);
  if (!found) fail("format() misses its argument '" + key.substr(0, 80) + "'");
  Value value = *found;
  while (!rest.empty()) {
    const bool dot = rest[0] == '.';
    const std::size_t stop = dot ? std::min(rest.find_first_of(".[", 1), rest.size()) : rest.find(']');
    if (stop == rest.npos || stop < 2) fail("Empty attribute in format string");
    std::string_view part = rest.substr(1, stop - 1);
    const std::string text(part);
    const std::int64_t index = dot ? -1 : take_number(part);
    value = dot ? attribute(value, text, budget)
                : item(value, index >= 0 && part.empty() ? Value(index) : Value(text), budget);
    rest.remove_prefix(dot ? stop : stop + 1);
  }
  return value;
}

}  // namespace

std::string padded(std::string_view text, std::string_view fill, char align, std::int64_t width,
                   Budget& budget) {
  const auto size = static_cast<std::int64_t>(num_characters(text));
  const std::int64_t missing = std::max<std::int64_t>(width - size, 0);
  if (missing > budget.bytes / static_cast<std::int64_t>(std::max<std::size_t>(fill.size(), 1)))
    fail("the template makes too much text");
  budget.spend_bytes(text.size() + static_cast<std::size_t>(missing) * fill.size());
  // str.center puts what is odd left where the width is odd too.
  const std::int64_t left = align == '<'   ? 0
                            : align == '>' ? missing
                            : align == '^' ? missing / 2
                                           : missing / 2 + (missing & width & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

std::string format_braces(std::string_view format, Arguments& arguments, Budget& budget) {
  std::string out;
  std::size_t next = 0;
  while (!format.empty()) {
    const std::size_t brace = std::min(format.find_first_of("{}"), format.size());
    budget.spend_bytes(brace + 1);
    out += format.substr(0, brace);
    format.remove_prefix(brace);
    if (format.empty()) break;
    if (format.size() > 1 && format[1] == format[0]) {
      out += format[0];
      format.remove_prefix(2);
      continue;
    }
    if (format[0] == '}') fail("Single '}' encountered in format string");
    const std::size_t end = format.find('}');
    if (end == format.npos) fail("expected '}' before end of string");
    std::string_view field = format.substr(1, end - 1);
    format.remove_prefix(end + 1);
    if (field.find('{') != field.npos) fail("a field within a format's field is not supported");
    const std::size_t colon = std::min(field.find(':'), field.size());
    const std::string_view specification = field.substr(std::min(colon + 1, field.size()));
    field = field.substr(0, colon);
    const std::size_t mark = std::min(field.find('!'), field.size());
    const std::string_view conversion = field.substr(mark);
    Value value = field_value(field.substr(0, mark), arguments, next, budget);
    if (conversion == "!r")
      value = to_repr(value, budget);
    else if (conversion == "!s")
      value = to_text(value, budget);
    else if (!conversion.empty())
      fail("a format's conversion must be !r or !s");
    out += specification.empty() ? to_text(value, budget)
                                 : formatted(value, read_specification(specification), budget);
  }
  return out;
}

std::string format_percent(std::string_view format, const Value& value, Budget& budget) {
  const bool tuple = value.seq() && value.seq()->kind == Sequence::Kind::kTuple;
  const Values items = tuple ? value.seq()->items : Values{value};
  std::size_t next = 0;
  bool by_name = false;
  std::string out;
  while (!format.empty()) {
    const std::size_t percent = format.find('%');
    out += format.substr(0, percent);
    budget.spend_bytes(std::min(percent, format.size()) + 1);
    if (percent == format.npos) break;
    format.remove_prefix(percent + 1);
    std::string_view name;
    if (format.starts_with('(')) {
      const std::size_t end = format.find(')');
      if (!value.map() || end == format.npos) fail("format requires a mapping");
      name = format.substr(1, end - 1);
      format.remove_prefix(end + 1);
      by_name = true;
    }
    Specification spec;
    spec.align = '>';
    char flag = 0;
    while (take(format, "-+ 0#", flag)) {
      if (flag == '-') spec.align = '<', spec.fill = " ";
      if (flag == '+' || (flag == ' ' && spec.sign == '-')) spec.sign = flag;
      if (flag == '0' && spec.align != '<') spec.align = '=', spec.fill = "0";
      if (flag == '#') spec.alternate = true;
    }
    spec.width = std::max<std::int64_t>(take_number(format), 0);
    if (take(format, ".", flag)) spec.precision = std::max<std::int64_t>(take_number(format), 0);
    if (!take(format, "diusrxXoeEfFgG%", spec.type))
      fail(format.empty() ? "incomplete format" : "unsupported format character");
    if (spec.type == '%') {
      out += '%';
      continue;
    }
    if (name.empty() && next >= items.size()) fail("not enough arguments for format string");
    const Value* found = !name.empty() ? value.map()->find(name) : &items[next++];
    if (!found) fail("'" + std::string(name.substr(0, 80)) + "'");
    if (spec.type == 's' || spec.type == 'r') {
      const Value text = spec.type == 's' ? to_text(*found, budget) : to_repr(*found, budget);
      if (spec.align == '=') spec.align = '>';
      spec.fill = " ", spec.sign = '-', spec.type = 's';
      out += formatted(text, spec, budget);
      continue;
    }
    if (!found->is_number())
      fail(std::string("%") + spec.type + " format: a number is required, not " + found->type_name());
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    Value number = *found;
    if (spec.type == 'd' && number.is<double>()) {
      if (!(std::abs(number.number("")) < 9.2e18)) fail("integer out of range");
      number = static_cast<std::int64_t>(number.number(""));
    }
    if (std::string_view("dxXo").find(spec.type) != std::string_view::npos) {
      if (!number.is_integer()) fail(std::string("%") + spec.type + " format: an integer is required");
      if (spec.precision >= 0) fail("a precision for an integer is not supported");
    }
    out += formatted(number, spec, budget);
  }
  if (!by_name && next < items.size() && !value.map())
    fail("not all arguments converted during string formatting");
  return out;
}

}  // namespace redline::jinja
