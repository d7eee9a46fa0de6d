#include <algorithm>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/python_text.h"

namespace redline::jinja {
namespace {

// A test of the value alone.
template <bool (*holds)(const Value&)>
bool alone(Interpreter&, Arguments& a) {
  a.finish();
  return holds(a.values[0]);
}

bool is_float(const Value& v) { return v.is<double>(); }
bool is_integer(const Value& v) { return v.is<std::int64_t>(); }
bool is_mapping(const Value& v) { return v.map(); }
bool is_escaped(const Value& v) { return v.safe(); }
bool is_string(const Value& v) { return v.text(); }
bool is_callable(const Value& v) { return v.function(); }
bool is_boolean(const Value& v) { return v.is<bool>(); }
bool is_true(const Value& v) { return v.is<bool>() && v.truth(); }
bool is_false(const Value& v) { return v.is<bool>() && !v.truth(); }
bool is_defined(const Value& v) { return !v.undefined(); }
bool is_undefined(const Value& v) { return v.undefined(); }
bool is_none(const Value& v) { return v.none(); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_iterable(const Value& v) { return v.seq() || v.text() || v.map() || v.undefined() || v.loop(); }
bool is_sequence(const Value& v) {
  return v.text() || v.map() || v.undefined() || (v.seq() && v.seq()->kind <= Sequence::Kind::kTuple);
}
bool is_even(const Value& v) { return v.integer("a number") % 2 == 0; }
bool is_odd(const Value& v) { return v.integer("a number") % 2 != 0; }

bool is_divisible(Interpreter& in, Arguments& a) {
  const Value divisor = a.require(1, "num");
  a.finish();
  return !arithmetic("%", a.values[0], divisor, in.budget).truth();
}

bool is_upper(Interpreter& in, Arguments& a) {
  a.finish();
  return is_all(to_text(a.values[0], in.budget), "upper");
}

bool is_lower(Interpreter& in, Arguments& a) {
  a.finish();
  return is_all(to_text(a.values[0], in.budget), "lower");
}

bool is_same(Interpreter& in, Arguments& a) {
  const Value other = a.require(1, "other");
  a.finish();
  return a.values[0].data().index() == other.data().index() && equal(a.values[0], other, in.budget);
}

bool is_filter(Interpreter&, Arguments& a) {
  a.finish();
  return a.values[0].text() && find_filter(*a.values[0].text());
}

bool is_test(Interpreter&, Arguments& a) {
  a.finish();
  return a.values[0].text() && find_test(*a.values[0].text());
}

struct Op {
  char text[3];
};
template <Op op>
bool compares(Interpreter& in, Arguments& a) {
  const Value other = a.require(1, op.text[0] == 'i' ? "seq" : "other");
  a.finish();
  return compare(op.text, a.values[0], other, in.budget);
}

constexpr std::pair<std::string_view, Test> kTests[] = {
    {"boolean", alone<is_boolean>},
    {"callable", alone<is_callable>},
    {"defined", alone<is_defined>},
    {"divisibleby", is_divisible},
    {"escaped", alone<is_escaped>},
    {"even", alone<is_even>},
    {"false", alone<is_false>},
    {"filter", is_filter},
    {"float", alone<is_float>},
    {"in", compares<Op{"in"}>},
    {"integer", alone<is_integer>},
    {"iterable", alone<is_iterable>},
    {"lower", is_lower},
    {"mapping", alone<is_mapping>},
    {"none", alone<is_none>},
    {"number", alone<is_number>},
    {"odd", alone<is_odd>},
    {"sameas", is_same},
    {"sequence", alone<is_sequence>},
    {"string", alone<is_string>},
    {"test", is_test},
    {"true", alone<is_true>},
    {"undefined", alone<is_undefined>},
    {"upper", is_upper},
    {"eq", compares<Op{"=="}>},
    {"equalto", compares<Op{"=="}>},
    {"==", compares<Op{"=="}>},
    {"ne", compares<Op{"!="}>},
    {"!=", compares<Op{"!="}>},
    {"lt", compares<Op{"<"}>},
    {"lessthan", compares<Op{"<"}>},
    {"<", compares<Op{"<"}>},
    {"le", compares<Op{"<="}>},
    {"<=", compares<Op{"<="}>},
    {"gt", compares<Op{">"}>},
    {"greaterthan", compares<Op{">"}>},
    {">", compares<Op{">"}>},
    {"ge", compares<Op{">="}>},
    {">=", compares<Op{">="}>},
};

}  // namespace

Test find_test(std::string_view name) {
  const auto* row = std::ranges::find(kTests, name, &std::pair<std::string_view, Test>::first);
  return row == std::end(kTests) ? nullptr : row->second;
}

}  // namespace redline::jinja
