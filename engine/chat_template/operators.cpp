#include "engine/chat_template/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/format_text.h"
#include "engine/chat_template/python_text.h"

namespace redline::jinja {
namespace {

[[noreturn]] void unsupported(std::string_view op, const Value& a, const Value& b) {
  a.require_defined(), b.require_defined();
  fail("unsupported operand types for " + std::string(op) + ": '" + a.type_name() + "' and '" +
       b.type_name() + "'");
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) fail("integer out of range");
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) fail("integer out of range");
  }
  return result;
}

Value integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    result = power(a, b);
  } else {
    if (b == 0) fail("division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1)
      return integer_arithmetic(op == "%" ? "*" : "-", 0, op == "%" ? 0 : a);  // INT64_MIN / -1 traps
    const bool rounds_down = (a % b != 0) && ((a < 0) != (b < 0));
    result = op == "%" ? a % b + (rounds_down ? b : 0) : a / b - rounds_down;
  }
  if (overflow) fail("integer out of range");
  return result;
}

Value float_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) fail("division by zero");
  if (op == "/") return a / b;
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return op == "%" ? remainder : std::floor((a - remainder) / b + 0.5);
}

std::size_t repeats(const Value& times, std::size_t size, Budget& budget) {
  const std::int64_t count = std::max<std::int64_t>(times.integer("a repetition"), 0);
  if (size > 0 && count > budget.bytes / static_cast<std::int64_t>(size))
    fail("the template makes too much text");
  budget.spend_bytes(size * static_cast<std::size_t>(count));
  return static_cast<std::size_t>(count);
}

// text * n and list * n.
Value repeated(const Value& value, const Value& times, Budget& budget) {
  if (const std::string* text = value.text()) {
    std::string result;
    for (std::size_t n = text->empty() ? 0 : repeats(times, text->size(), budget); n > 0; --n)
      result += *text;
    return value.safe() ? Value(std::move(result)).as_safe() : Value(std::move(result));
  }
  const Values& items = value.seq()->items;
  Values result;
  for (std::size_t n = items.empty() ? 0 : repeats(times, items.size() * sizeof(Value), budget); n > 0; --n)
    result.insert(result.end(), items.begin(), items.end());
  return Value::sequence(value.seq()->kind, std::move(result));
}

bool is_repeatable(const Value& value) {
  return value.text() || (value.seq() && value.seq()->kind <= Sequence::Kind::kTuple);
}

// A slice's bound `at` as Python clips it for that direction.
std::int64_t bound(const Value& at, std::int64_t size, bool forward, std::int64_t otherwise) {
  if (at.none()) return otherwise;
  std::int64_t i = at.integer("a slice's bound");
  if (i < 0) i = std::max<std::int64_t>(i + size, -1);
  return forward ? std::clamp<std::int64_t>(i, 0, size) : std::clamp<std::int64_t>(i, -1, size - 1);
}

Undefined no_attribute(const Value& value, std::string_view name) {
  const std::string type = value.none() ? "None" : std::string(value.type_name()) + " object";
  return {"'" + type + "' has no attribute '" + std::string(name) + "'"};
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const Values& items = loop.items->items;
  const std::size_t i = loop.index0, size = items.size();
  if (name == "index") return i + 1;
  if (name == "index0") return i;
  if (name == "revindex") return size - i;
  if (name == "revindex0") return size - i - 1;
  if (name == "first") return i == 0;
  if (name == "last") return i + 1 == size;
  if (name == "length") return size;
  if (name == "depth") return 1;  // recursive loops alone go deeper
  if (name == "depth0") return 0;
  if (name == "previtem") return i > 0 ? items[i - 1] : Value(Undefined{"there is no previous item"});
  if (name == "nextitem") return i + 1 < size ? items[i + 1] : Value(Undefined{"there is no next item"});
  return Undefined{"'LoopContext object' has no attribute '" + std::string(name) + "'"};
}

}  // namespace

Value arithmetic(std::string_view op, const Value& a, const Value& b, Budget& budget) {
  if (a.is_integer() && b.is_integer()) return integer_arithmetic(op, a.integer(""), b.integer(""));
  if (a.is_number() && b.is_number()) return float_arithmetic(op, a.number(""), b.number(""));
  if (op == "%" && a.text()) return format_percent(*a.text(), b, budget);
  if (op == "*" && is_repeatable(a) && b.is_integer()) return repeated(a, b, budget);
  if (op == "*" && is_repeatable(b) && a.is_integer()) return repeated(b, a, budget);
  if (op == "+" && a.text() && b.text()) {
    const bool safe = a.safe() || b.safe();
    const auto part = [safe](const Value& v) {
      return safe && !v.safe() ? html_escaped(*v.text()) : *v.text();
    };
    Value sum = part(a) + part(b);
    budget.spend_bytes(sum.text()->size());
    return safe ? sum.as_safe() : sum;
  }
  if (op != "+" || !is_repeatable(a) || !is_repeatable(b) || a.text() || b.text() ||
      a.seq()->kind != b.seq()->kind)
    unsupported(op, a, b);
  Values items = a.seq()->items;
  items.insert(items.end(), b.seq()->items.begin(), b.seq()->items.end());
  budget.spend_bytes(items.size() * sizeof(Value));
  return Value::sequence(a.seq()->kind, std::move(items));
}

bool compare(std::string_view op, const Value& a, const Value& b, Budget& budget) {
  if (op == "==") return equal(a, b, budget);
  if (op == "!=") return !equal(a, b, budget);
  if (op == "in") return contains(b, a, budget);
  if (op == "not in") return !contains(b, a, budget);
  if (op == "<") return less(a, b, budget);
  if (op == ">") return less(b, a, budget);
  return (op == "<=" ? less(a, b, budget) : less(b, a, budget)) || equal(a, b, budget);
}

Value attribute(const Value& value, std::string_view name, Budget& budget) {
  value.require_defined();
  if (const Loop* loop = value.loop(); loop && !has_method(value, name)) return loop_attribute(*loop, name);
  if (const Namespace* ns = value.ns()) {
    const auto it = ns->find(name);
    return it != ns->end() ? it->second : no_attribute(value, name);
  }
  if (has_method(value, name)) return bound_method(value, name, budget);
  const Value* found = value.map() ? value.map()->find(name) : nullptr;
  return found ? *found : no_attribute(value, name);
}

Value item(const Value& value, const Value& key, Budget& budget) {
  value.require_defined();
  if (key.text()) {
    const Value* found = value.map() ? value.map()->find(*key.text()) : nullptr;
    return found ? *found : attribute(value, *key.text(), budget);
  }
  if (key.is_integer() && !value.map()) {
    const std::int64_t index = key.integer("an index");
    const auto at = [&](std::size_t size) {
      return index < 0 ? index + static_cast<std::int64_t>(size) : index;
    };
    if (const Sequence* seq = value.seq(); seq && seq->kind <= Sequence::Kind::kTuple) {
      const std::int64_t i = at(seq->items.size());
      if (i >= 0 && i < static_cast<std::int64_t>(seq->items.size()))
        return seq->items[static_cast<std::size_t>(i)];
    } else if (const std::string* text = value.text()) {
      const auto parts = characters(*text);
      const std::int64_t i = at(parts.size());
      if (i >= 0 && i < static_cast<std::int64_t>(parts.size())) return parts[static_cast<std::size_t>(i)];
    }
    return Undefined{std::string("'") + value.type_name() + " object' has no element " +
                     std::to_string(index)};
  }
  key.require_defined();
  const Sequence* tuple = key.seq() && key.seq()->kind == Sequence::Kind::kTuple ? key.seq() : nullptr;
  const bool hashable = key.is_number() || key.none() || tuple;
  const Value* found = value.map() && hashable ? value.map()->find_key(key) : nullptr;
  return found ? *found : Undefined{std::string("'") + value.type_name() + " object' has no such element"};
}

Value slice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget& budget) {
  value.require_defined();
  if (!is_repeatable(value)) fail(std::string("'") + value.type_name() + "' object cannot be sliced");
  const std::int64_t stride = step.none() ? 1 : step.integer("a slice's step");
  if (stride == 0) fail("a slice's step cannot be zero");
  Values items;
  std::vector<std::string_view> parts;
  if (value.text()) parts = characters(*value.text());
  const auto size = static_cast<std::int64_t>(value.text() ? parts.size() : value.seq()->items.size());
  const bool forward = stride > 0;
  const std::int64_t first = bound(start, size, forward, forward ? 0 : size - 1);
  const std::int64_t last = bound(stop, size, forward, forward ? size : -1);
  std::string text;
  for (std::int64_t i = first; forward ? i < last : i > last;) {
    const auto index = static_cast<std::size_t>(i);
    if (value.text())
      text += parts[index];
    else
      items.push_back(value.seq()->items[index]);
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  budget.spend_bytes(text.size() + items.size() * sizeof(Value));
  if (value.text()) return text;
  return Value::sequence(value.seq()->kind, std::move(items));
}

}  // namespace redline::jinja
