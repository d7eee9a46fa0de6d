// What Python's operators and subscripts do to values.
#pragma once

#include <string_view>

#include "engine/chat_template/value.h"

namespace redline::jinja {

/// a OP b for + - * / // % **. Integers are 64 bits wide: beyond is a Failure.
Value arithmetic(std::string_view op, const Value& a, const Value& b, Budget& budget);
/// a OP b for == != < <= > >= in "not in".
bool compare(std::string_view op, const Value& a, const Value& b, Budget& budget);

/// value.name and value[key] as jinja2 looks them up: methods before a mapping's items for the first, items
/// first for the second; undefined where there is neither.
Value attribute(const Value& value, std::string_view name, Budget& budget);
Value item(const Value& value, const Value& key, Budget& budget);
/// value[start:stop:step]; none where absent.
Value slice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget& budget);

}  // namespace redline::jinja
