// Jinja's filters and tests, Python's methods, and the global functions.
#pragma once

#include <string_view>

#include "engine/chat_template/value.h"

namespace redline::jinja {

class Interpreter;

/// arguments.values[0] is what stands before "|" or "is".
using Filter = Value (*)(Interpreter&, Arguments&);
using Test = bool (*)(Interpreter&, Arguments&);

/// Null where there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

/// Methods of str, dict, list and loop that do not change them.
bool has_method(const Value& self, std::string_view name);
Value call_method(const Value& self, Arguments& arguments, Budget& budget);
/// A method that was looked up but not called; calling it later works too.
Value bound_method(const Value& self, std::string_view name, Budget& budget);

/// range, dict, namespace, raise_exception, strftime_now.
Named global_functions(Interpreter& interpreter);

struct JsonStyle {
  const std::string* indent = nullptr;  // one level's text; null: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};
/// json.dumps.
std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace redline::jinja
