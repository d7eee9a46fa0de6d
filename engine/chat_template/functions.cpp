#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/python_text.h"

namespace redline::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // jinja2's sandbox has the same

Value range(Arguments& a, Budget& budget) {
  std::int64_t start = 0, stop = a.require(0, "stop").integer("range()"), step = 1;
  if (a.values.size() > 1) start = stop, stop = a.require(1, "stop").integer("range()");
  if (a.values.size() > 2) step = a.require(2, "step").integer("range()");
  a.finish();
  if (step == 0) fail("range() arg 3 must not be zero");
  const double span = (static_cast<double>(stop) - static_cast<double>(start)) / static_cast<double>(step);
  if (span > static_cast<double>(kMaxRange))
    fail("Range too big. The sandbox blocks ranges larger than 100000.");
  Values items;
  const auto count = static_cast<std::int64_t>(std::max(std::ceil(span), 0.0));
  for (std::int64_t i = 0; i < count; ++i) items.push_back(start + i * step);
  budget.spend_bytes(items.size() * sizeof(Value));
  return Value::list(std::move(items));
}

// dict(a mapping or pairs, **named)'s items.
Entries dict(Arguments& a, Budget& budget) {
  Entries items;
  if (a.values.size() > 1) fail(std::string(a.name) + "() takes a dict and named arguments");
  if (!a.values.empty() && a.values[0].map()) {
    items = a.values[0].map()->items;
  } else if (!a.values.empty()) {
    for (const Value& item : iterate(a.values[0], budget)) {
      const Values pair = iterate(item, budget);
      if (pair.size() != 2) fail(std::string(a.name) + "() needs pairs");
      items.emplace_back(pair[0], pair[1]);
    }
  }
  items.insert(items.end(), a.named.begin(), a.named.end());
  return items;
}

Value strftime_now(Arguments& a, std::chrono::system_clock::time_point now) {
  const Value format = a.require(0, "format");
  a.finish();
  if (!format.text()) fail("strftime_now() needs a string");
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 1024> text;
  // A space in front tells an empty result from one that does not fit.
  const std::size_t size = std::strftime(text.data(), text.size(), (" " + *format.text()).c_str(), &local);
  if (size == 0) fail("strftime_now()'s format is too long");
  return std::string_view(text.data() + 1, size - 1);
}

// A number, true, false or None as a key is its own JSON.
std::string json_key(const Value& key, Budget& budget) {
  if (key.text()) return *key.text();
  if (!key.is_number() && !key.none())
    fail(std::string("keys must be str, int, float, bool or None, not ") + key.type_name());
  return to_json(key, JsonStyle(), budget);
}

void write_json(const Value& value, const JsonStyle& style, const std::string& line, std::string& out,
                Budget& budget) {
  const Nesting nesting(budget);
  const std::size_t before = out.size();
  const std::string inner_line = style.indent ? line + *style.indent : "";
  const auto members = [&](char open, char close, const auto& items, const auto& write) {
    out += open;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += style.item_separator;
      first = false;
      if (style.indent) out += inner_line;
      budget.spend_bytes(inner_line.size());
      write(item);
    }
    if (style.indent && !first) out += line;
    out += close;
  };
  const Sequence* seq = value.seq();
  if (value.none()) {
    out += "null";
  } else if (value.is<bool>()) {
    out += value.truth() ? "true" : "false";
  } else if (value.is<std::int64_t>()) {
    out += std::to_string(value.integer(""));
  } else if (value.is<double>()) {
    const double number = value.number("");
    out += std::isnan(number)   ? "NaN"
           : std::isinf(number) ? (number < 0 ? "-Infinity" : "Infinity")
                                : float_repr(number);
  } else if (value.text()) {
    out += json_quoted(*value.text(), style.ensure_ascii);
  } else if (seq && seq->kind <= Sequence::Kind::kTuple) {
    members('[', ']', seq->items,
            [&](const Value& item) { write_json(item, style, inner_line, out, budget); });
  } else if (value.map()) {
    Entries items = value.map()->items;
    if (style.sort_keys)
      std::ranges::stable_sort(items,
                               [&](const auto& a, const auto& b) { return less(a.first, b.first, budget); });
    members('{', '}', items, [&](const auto& item) {
      out += json_quoted(json_key(item.first, budget), style.ensure_ascii) + style.key_separator;
      write_json(item.second, style, inner_line, out, budget);
    });
  } else {
    fail(std::string("Object of type ") + value.type_name() + " is not JSON serializable");
  }
  budget.spend_bytes(out.size() - before);
}

}  // namespace

Named global_functions(Interpreter& in) {
  const auto function = [](const char* name, std::function<Value(Arguments&)> call) {
    return std::pair<std::string, Value>(name, Function{name, std::move(call)});
  };
  return {
      function("range", [&in](Arguments& a) { return range(a, in.budget); }),
      function("dict", [&in](Arguments& a) { return Value(dict(a, in.budget)); }),
      function("namespace",
               [&in](Arguments& a) {
                 Namespace* made = in.new_namespace();
                 for (auto& [name, value] : dict(a, in.budget)) {
                   if (!name.text()) fail("a namespace's names must be strings");
                   made->insert_or_assign(*name.text(), std::move(value));
                 }
                 return Value(made);
               }),
      function("raise_exception",
               [&in](Arguments& a) -> Value {
                 const Value message = a.require(0, "message");
                 a.finish();
                 fail(to_text(message, in.budget));
               }),
      function("strftime_now", [&in](Arguments& a) { return strftime_now(a, in.now); }),
  };
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  std::string out;
  write_json(value, style, "\n", out, budget);
  return out;
}

}  // namespace redline::jinja
