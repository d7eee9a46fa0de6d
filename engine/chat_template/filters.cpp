#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/format_text.h"
#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/python_text.h"
#include "engine/regex.h"

namespace redline::jinja {
namespace {

std::string text_of(Interpreter& in, const Value& value) { return to_text(value, in.budget); }

// `value`.a.b for the attribute "a.b"; a part that is a number is an index. `otherwise`, unless undefined,
// stands in for each part that is missing.
Value at_path(const Value& value, const Value& path, Budget& budget, const Value& otherwise = Undefined{}) {
  if (!path.text()) return item(value, path, budget);
  Value found = value;
  for (std::string_view part : split(*path.text(), ".", -1)) {
    const bool index = !part.empty() && part.size() < 10 &&
                       std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    found = item(found, index ? Value(std::int64_t{std::stoll(std::string(part))}) : Value(part), budget);
    if (found.undefined() && !otherwise.undefined()) found = otherwise;
  }
  return found;
}

// What sort, unique, min and max compare: the attribute where one is named, in lower case unless told
// otherwise.
Value sort_key(const Value& value, const Value& path, bool case_sensitive, Budget& budget) {
  Value key = path.none() ? value : at_path(value, path, budget);
  return key.text() && !case_sensitive ? Value(lower(*key.text())) : key;
}

void sort_values(Values& values, const Value& path, bool case_sensitive, bool reverse, Budget& budget) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& value : values)
    keyed.emplace_back(sort_key(value, path, case_sensitive, budget), std::move(value));
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, budget) : less(a.first, b.first, budget);
  });
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::move(keyed[i].second);
}

Value generator(Values items) { return Value::sequence(Sequence::Kind::kGenerator, std::move(items)); }

Value default_filter(Interpreter&, Arguments& a) {
  const Value otherwise = a.get(1, "default_value", "");
  const bool by_truth = a.get(2, "boolean", false).truth();
  a.finish();
  return a.values[0].undefined() || (by_truth && !a.values[0].truth()) ? otherwise : a.values[0];
}

Value join(Interpreter& in, Arguments& a) {
  const std::string glue = text_of(in, a.get(1, "d", ""));
  const Value path = a.get(2, "attribute", {});
  a.finish();
  std::string out;
  bool first = true;
  for (const Value& value : iterate(a.values[0], in.budget)) {
    if (!first) out += glue;
    in.budget.spend_bytes(glue.size());
    first = false;
    out += text_of(in, path.none() ? value : at_path(value, path, in.budget));
  }
  return out;
}

Value to_list(Interpreter& in, Arguments& a) {
  a.finish();
  return Value::list(iterate(a.values[0], in.budget));
}

Value length_filter(Interpreter&, Arguments& a) {
  a.finish();
  return length(a.values[0]);
}

Value string_filter(Interpreter& in, Arguments& a) {
  a.finish();
  return a.values[0].text() ? a.values[0] : text_of(in, a.values[0]);
}

Value trim(Interpreter& in, Arguments& a) {
  const Value chars = a.get(1, "chars", {});
  a.finish();
  const std::string text = text_of(in, a.values[0]);
  const Value result = chars.text() ? strip(text, true, true, *chars.text()) : strip(text, true, true);
  return a.values[0].safe() ? result.as_safe() : result;
}

template <std::string (*map)(std::string_view)>
Value map_text(Interpreter& in, Arguments& a) {
  a.finish();
  const Value result = map(text_of(in, a.values[0]));
  return a.values[0].safe() ? result.as_safe() : result;
}

std::string title_words(std::string_view text) {
  static const Regex kWord(R"(([^-\s({\[<])([^-\s({\[<]*))");
  return kWord.replace(text, "\\U$1\\L$2\\E");
}

Value escape(Interpreter& in, Arguments& a) {
  a.finish();
  if (a.values[0].safe()) return a.values[0];
  std::string text = html_escaped(text_of(in, a.values[0]));
  in.budget.spend_bytes(text.size());
  return Value(std::move(text)).as_safe();
}

Value safe(Interpreter& in, Arguments& a) {
  a.finish();
  return (a.values[0].text() ? a.values[0] : text_of(in, a.values[0])).as_safe();
}

Value replace_filter(Interpreter& in, Arguments& a) {
  Arguments method("replace", {text_of(in, a.require(1, "old")), text_of(in, a.require(2, "new"))});
  if (const Value* count = a.find(3, "count"); count && !count->none()) method.values.push_back(*count);
  a.finish();
  return call_method(text_of(in, a.values[0]), method, in.budget);
}

Value indent(Interpreter& in, Arguments& a) {
  const Value width = a.get(1, "width", 4);
  const bool first = a.get(2, "first", false).truth(), blank = a.get(3, "blank", false).truth();
  a.finish();
  const std::string text = text_of(in, a.values[0]) + "\n";
  const Value spaces = width.text() ? width : arithmetic("*", " ", width, in.budget);
  std::string out = first ? *spaces.text() : "";
  const auto lines = split_lines(text, false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) {
      in.budget.spend_bytes(spaces.text()->size());
      out += *spaces.text();
    }
    out += lines[i];
  }
  return out;
}

Value first(Interpreter& in, Arguments& a) {
  a.finish();
  if (const Sequence* seq = a.values[0].seq(); seq && seq->kind == Sequence::Kind::kGenerator) {
    if (seq->consumed < seq->items.size()) return seq->items[seq->consumed++];
    return Undefined{"No first item, sequence was empty."};
  }
  const Values items = iterate(a.values[0], in.budget);
  return items.empty() ? Undefined{"No first item, sequence was empty."} : items.front();
}

Value last(Interpreter& in, Arguments& a) {
  a.finish();
  const Values items = iterate(a.values[0], in.budget);
  return items.empty() ? Undefined{"No last item, sequence was empty."} : items.back();
}

Value reverse(Interpreter& in, Arguments& a) {
  a.finish();
  Values items = iterate(a.values[0], in.budget);
  std::ranges::reverse(items);
  if (!a.values[0].text()) return generator(std::move(items));
  std::string out;
  for (const Value& character : items) out += *character.text();
  return out;
}

Value items_filter(Interpreter& in, Arguments& a) {
  a.finish();
  if (a.values[0].undefined()) return generator({});
  if (!a.values[0].map()) fail("Can only get item pairs from a mapping.");
  Arguments none("items");
  const Value view = call_method(a.values[0], none, in.budget);
  return generator(view.seq()->items);
}

Value dictsort(Interpreter& in, Arguments& a) {
  const bool case_sensitive = a.get(1, "case_sensitive", false).truth();
  const Value by = a.get(2, "by", "key");
  const bool reversed = a.get(3, "reverse", false).truth();
  a.finish();
  if (!a.values[0].map()) fail("dictsort needs a dict");
  if (!by.text() || (*by.text() != "key" && *by.text() != "value"))
    fail("You can only sort by either \"key\" or \"value\"");
  Values pairs;
  for (const auto& [key, value] : a.values[0].map()->items) pairs.push_back(Value::tuple({key, value}));
  sort_values(pairs, *by.text() == "key" ? 0 : 1, case_sensitive, reversed, in.budget);
  return Value::list(std::move(pairs));
}

Value sort(Interpreter& in, Arguments& a) {
  const bool reversed = a.get(1, "reverse", false).truth(),
             case_sensitive = a.get(2, "case_sensitive", false).truth();
  const Value path = a.get(3, "attribute", {});
  a.finish();
  Values items = iterate(a.values[0], in.budget);
  sort_values(items, path, case_sensitive, reversed, in.budget);
  return Value::list(std::move(items));
}

Value unique(Interpreter& in, Arguments& a) {
  const bool case_sensitive = a.get(1, "case_sensitive", false).truth();
  const Value path = a.get(2, "attribute", {});
  a.finish();
  Values kept, keys;
  for (Value& value : iterate(a.values[0], in.budget)) {
    Value key = sort_key(value, path, case_sensitive, in.budget);
    if (std::ranges::any_of(keys, [&](const Value& other) { return equal(key, other, in.budget); })) continue;
    keys.push_back(std::move(key));
    kept.push_back(std::move(value));
  }
  return generator(std::move(kept));
}

template <bool kLargest>
Value extreme(Interpreter& in, Arguments& a) {
  const bool case_sensitive = a.get(1, "case_sensitive", false).truth();
  const Value path = a.get(2, "attribute", {});
  a.finish();
  const Values items = iterate(a.values[0], in.budget);
  if (items.empty()) return Undefined{"No aggregated item, sequence was empty."};
  const auto key = [&](const Value& value) { return sort_key(value, path, case_sensitive, in.budget); };
  const auto before = [&](const Value& x, const Value& y) { return less(key(x), key(y), in.budget); };
  return kLargest ? *std::max_element(items.begin(), items.end(), before)
                  : *std::min_element(items.begin(), items.end(), before);
}

Value sum(Interpreter& in, Arguments& a) {
  const Value path = a.get(1, "attribute", {});
  Value total = a.get(2, "start", 0);
  a.finish();
  for (const Value& value : iterate(a.values[0], in.budget))
    total = arithmetic("+", total, path.none() ? value : at_path(value, path, in.budget), in.budget);
  return total;
}

Value batch(Interpreter& in, Arguments& a) {
  const std::int64_t size = a.require(1, "linecount").integer("linecount");
  const Value fill = a.get(2, "fill_with", {});
  a.finish();
  Values batches, current;
  const auto flush = [&] { batches.push_back(Value::list(std::exchange(current, {}))); };
  for (Value& value : iterate(a.values[0], in.budget)) {
    if (static_cast<std::int64_t>(current.size()) == size) flush();
    current.push_back(std::move(value));
  }
  if (!current.empty()) {
    while (!fill.none() && static_cast<std::int64_t>(current.size()) < size) {
      in.budget.spend_bytes(sizeof(Value));
      current.push_back(fill);
    }
    flush();
  }
  return generator(std::move(batches));
}

// The arguments from number `skip` on, for a filter or test called `name` on `value`.
Arguments forwarded(const Arguments& a, std::size_t skip, std::string_view name, const Value& value) {
  Arguments inner(name, {value}, a.named);
  for (std::size_t i = skip; i < a.values.size(); ++i) inner.values.push_back(a.values[i]);
  return inner;
}

// What map, select and their like go through: nothing where jinja2 looks at the truth of what it is given
// first.
Values iterate_true(const Value& value, Budget& budget) {
  return value.truth() ? iterate(value, budget) : Values();
}

Value map_filter(Interpreter& in, Arguments& a) {
  Values mapped;
  const Values items = iterate_true(a.values[0], in.budget);
  if (a.values.size() == 1) {
    const Value path = a.get(1, "attribute", {}), otherwise = a.get(2, "default", Undefined{});
    a.finish();
    if (path.none()) fail("map requires a filter argument");
    for (const Value& value : items) mapped.push_back(at_path(value, path, in.budget, otherwise));
  } else {
    const std::string* name = a.values[1].text();
    if (!name) fail("map requires a filter's name");
    for (const Value& value : items) {
      in.budget.spend_steps(1);
      Arguments inner = forwarded(a, 2, *name, value);
      mapped.push_back(in.filter(*name, inner));
    }
  }
  return generator(std::move(mapped));
}

// select, reject, selectattr, rejectattr: keeps the items whose test (truth where none is named) gives
// `kWanted`.
template <bool kByAttribute, bool kWanted>
Value choose(Interpreter& in, Arguments& a) {
  constexpr std::size_t kTest = kByAttribute ? 2 : 1;
  if (kByAttribute && a.values.size() < 2) fail("an attribute's name is missing");
  const std::string* name = a.values.size() > kTest ? a.values[kTest].text() : nullptr;
  if (a.values.size() > kTest && !name) fail("a test's name must be a string");
  Values kept;
  for (Value& value : iterate_true(a.values[0], in.budget)) {
    in.budget.spend_steps(1);
    const Value subject = kByAttribute ? at_path(value, a.values[1], in.budget) : value;
    bool passes = subject.truth();
    if (name) {
      Arguments inner = forwarded(a, kTest + 1, *name, subject);
      passes = in.test(*name, inner);
    }
    if (passes == kWanted) kept.push_back(std::move(value));
  }
  return generator(std::move(kept));
}

Value int_filter(Interpreter&, Arguments& a) {
  const Value otherwise = a.get(1, "default", 0);
  const std::int64_t base = a.get(2, "base", 10).integer("base");
  a.finish();
  const Value& value = a.values[0];
  value.require_defined();
  if (value.is_integer()) return value.integer("");
  double number = std::nan("");
  if (value.is<double>()) number = value.number("");
  if (const std::string* text = value.text()) {
    const std::string digits(strip(*text, true, true));
    std::size_t used = 0;
    try {
      const std::int64_t integer =
          std::stoll(digits, &used, base >= 2 && base <= 36 ? static_cast<int>(base) : 10);
      if (used == digits.size()) return integer;
      number = std::stod(digits, &used);
      if (used != digits.size()) return otherwise;
    } catch (const std::logic_error&) {
      return otherwise;
    }
  }
  if (!(std::abs(number) < 9.2e18)) return otherwise;
  return static_cast<std::int64_t>(number);
}

Value float_filter(Interpreter&, Arguments& a) {
  const Value otherwise = a.get(1, "default", 0.0);
  a.finish();
  const Value& value = a.values[0];
  value.require_defined();
  if (value.is_number()) return value.number("");
  if (!value.text()) return otherwise;
  const std::string digits(strip(*value.text(), true, true));
  std::size_t used = 0;
  try {
    const double number = std::stod(digits, &used);
    return used == digits.size() ? Value(number) : otherwise;
  } catch (const std::logic_error&) {
    return otherwise;
  }
}

Value abs_filter(Interpreter& in, Arguments& a) {
  a.finish();
  const Value& value = a.values[0];
  return value.number("abs") < 0 || std::signbit(value.number("abs")) ? arithmetic("*", value, -1, in.budget)
                                                                      : value;
}

Value round_filter(Interpreter&, Arguments& a) {
  const std::int64_t precision = a.get(1, "precision", 0).integer("precision");
  const Value method = a.get(2, "method", "common");
  a.finish();
  const double value = a.values[0].number("round");
  if (!method.text() || precision < -300 || precision > 300) fail("round cannot do that");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (*method.text() == "ceil") return std::ceil(value * scale) / scale;
  if (*method.text() == "floor") return std::floor(value * scale) / scale;
  if (*method.text() != "common") fail("method must be common, ceil or floor");
  if (precision < 0) return std::nearbyint(value * scale) / scale;
  if (a.values[0].is_integer()) return a.values[0].integer("");
  char digits[700];
  std::snprintf(digits, sizeof digits, "%.*f", static_cast<int>(precision), value);
  return std::stod(digits);
}

Value attr(Interpreter& in, Arguments& a) {
  const Value name = a.require(1, "name");
  a.finish();
  if (!name.text()) fail("an attribute's name must be a string");
  return attribute(a.values[0], *name.text(), in.budget);
}

Value format_filter(Interpreter& in, Arguments& a) {
  const std::string format = text_of(in, a.values[0]);
  if (a.named.empty())
    return format_percent(format, Value::tuple({a.values.begin() + 1, a.values.end()}), in.budget);
  if (a.values.size() > 1) fail("can't handle positional and keyword arguments at the same time");
  return format_percent(format, Entries(a.named.begin(), a.named.end()), in.budget);
}

Value center(Interpreter& in, Arguments& a) {
  Arguments method("center", {a.get(1, "width", 80)});
  a.finish();
  return call_method(text_of(in, a.values[0]), method, in.budget);
}

Value wordcount(Interpreter& in, Arguments& a) {
  a.finish();
  return split(text_of(in, a.values[0]), std::nullopt, -1).size();
}

Value tojson(Interpreter& in, Arguments& a) {
  JsonStyle style;
  style.ensure_ascii = a.get(1, "ensure_ascii", false).truth();
  const Value indentation = a.get(2, "indent", {}), separators = a.get(3, "separators", {});
  style.sort_keys = a.get(4, "sort_keys", false).truth();
  a.finish();
  const Value spaces = indentation.is_integer() ? arithmetic("*", " ", indentation, in.budget) : indentation;
  style.indent = spaces.text();
  if (style.indent) style.item_separator.assign(1, ',');
  if (!separators.none()) {
    const Values pair = iterate(separators, in.budget);
    if (pair.size() != 2 || !pair[0].text() || !pair[1].text()) fail("separators must be two strings");
    style.item_separator = *pair[0].text(), style.key_separator = *pair[1].text();
  }
  return to_json(a.values[0], style, in.budget);
}

constexpr std::pair<std::string_view, Filter> kFilters[] = {
    {"abs", abs_filter},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", map_text<capitalize>},
    {"center", center},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", float_filter},
    {"format", format_filter},
    {"indent", indent},
    {"int", int_filter},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"length", length_filter},
    {"list", to_list},
    {"lower", map_text<lower>},
    {"map", map_filter},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", choose<false, false>},
    {"rejectattr", choose<true, false>},
    {"replace", replace_filter},
    {"reverse", reverse},
    {"round", round_filter},
    {"safe", safe},
    {"select", choose<false, true>},
    {"selectattr", choose<true, true>},
    {"sort", sort},
    {"string", string_filter},
    {"sum", sum},
    {"title", map_text<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"unique", unique},
    {"upper", map_text<upper>},
    {"wordcount", wordcount},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const auto* row = std::ranges::find(kFilters, name, &std::pair<std::string_view, Filter>::first);
  return row == std::end(kFilters) ? nullptr : row->second;
}

}  // namespace redline::jinja
