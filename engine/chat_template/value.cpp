#include "engine/chat_template/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/chat_template/python_text.h"
#include "engine/utf8.h"

namespace redline::jinja {
namespace {

int checked_height(int height) {
  if (height > Value::kMaxHeight)
    fail("values nest more than " + std::to_string(Value::kMaxHeight) + " deep");
  return height;
}

void write(const Value& value, bool repr, std::string& out, Budget& budget);

void write_items(const Values& items, const char* open, const char* close, std::string& out, Budget& budget) {
  out += open;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    write(items[i], true, out, budget);
  }
  out += close;
}

void write_mapping(const Entries& items, std::string& out, Budget& budget) {
  out += '{';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    write(items[i].first, true, out, budget);
    out += ": ";
    write(items[i].second, true, out, budget);
  }
  out += '}';
}

// The same for keys that Python takes for equal.
std::string key_identity(const Value& key) {
  key.require_defined();
  if (const std::string* text = key.text()) return "s" + std::to_string(text->size()) + ":" + *text;
  if (key.none()) return "n";
  if (key.is_integer()) return "i" + std::to_string(key.integer(""));
  if (key.is<double>()) {
    const double number = key.number("");
    const bool whole = std::abs(number) < 9.2e18 && number == std::floor(number);
    return whole ? "i" + std::to_string(static_cast<std::int64_t>(number)) : "f" + float_repr(number);
  }
  if (const Sequence* seq = key.seq(); seq && seq->kind == Sequence::Kind::kTuple) {
    std::string all = "t" + std::to_string(seq->items.size());
    for (const Value& item : seq->items) all += "," + key_identity(item);
    return all;
  }
  fail(std::string("unhashable type: '") + key.type_name() + "'");
}

void write(const Value& value, bool repr, std::string& out, Budget& budget) {
  const Nesting nesting(budget);
  const std::size_t before = out.size();
  if (value.none()) {
    out += "None";
  } else if (value.is<bool>()) {
    out += value.truth() ? "True" : "False";
  } else if (value.is<std::int64_t>()) {
    out += std::to_string(std::get<std::int64_t>(value.data()));
  } else if (value.is<double>()) {
    out += float_repr(std::get<double>(value.data()));
  } else if (const std::string* text = value.text()) {
    out += repr ? repr_quoted(*text) : *text;
  } else if (const Sequence* seq = value.seq()) {
    switch (seq->kind) {
      case Sequence::Kind::kList:
        write_items(seq->items, "[", "]", out, budget);
        break;
      case Sequence::Kind::kView:
        write_items(seq->items, "dict_view([", "])", out, budget);
        break;
      case Sequence::Kind::kGenerator:
        out += "<generator object>";
        break;
      case Sequence::Kind::kTuple:
        write_items(seq->items, "(", seq->items.size() == 1 ? ",)" : ")", out, budget);
    }
  } else if (const Mapping* map = value.map()) {
    write_mapping(map->items, out, budget);
  } else if (const Namespace* ns = value.ns()) {
    out += "<Namespace ";
    write_mapping(Entries(ns->begin(), ns->end()), out, budget);
    out += '>';
  } else if (const Function* function = value.function()) {
    out += "<function " + function->name + ">";
  } else if (repr) {
    out += "Undefined";
  }
  // Nested parts were paid for by themselves; paying for them again at each level bounds deep nesting too.
  budget.spend_bytes(out.size() - before);
}

std::pair<double, double> numbers(const Value& a, const Value& b) { return {a.number(""), b.number("")}; }

bool equal_items(const Values& a, const Values& b, Budget& budget) {
  return std::ranges::equal(a, b, [&](const Value& x, const Value& y) { return equal(x, y, budget); });
}

}  // namespace

Value::Value(Entries v) : data_(std::make_shared<const Mapping>(std::move(v))) {}

Value Value::sequence(Sequence::Kind kind, Values items) {
  int height = 0;
  for (const Value& item : items) height = std::max(height, item.height());
  Value value;
  value.data_ =
      std::make_shared<const Sequence>(Sequence{kind, std::move(items), checked_height(height + 1)});
  return value;
}

Value Value::from_json(const nlohmann::ordered_json& json, int height) {
  checked_height(height);
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<std::int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      return number <= INT64_MAX ? Value(static_cast<std::int64_t>(number)) : Value(json.get<double>());
    }
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return to_valid_utf8(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      Values items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, height + 1));
      return list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Entries items;
      items.reserve(json.size());
      for (const auto& [key, item] : json.items())
        items.emplace_back(to_valid_utf8(key), from_json(item, height + 1));
      return items;
    }
    default:
      return {};
  }
}

Mapping::Mapping(Entries entries) {
  items.reserve(entries.size());
  for (auto& [key, value] : entries) {
    height = checked_height(std::max({height, key.height() + 1, value.height() + 1}));
    // A view of a key's text stays valid: keys share their texts, wherever they move.
    const std::size_t place = key.text() ? texts_.try_emplace(*key.text(), items.size()).first->second
                                         : others_.try_emplace(key_identity(key), items.size()).first->second;
    if (place == items.size())
      items.emplace_back(std::move(key), std::move(value));
    else
      items[place].second = std::move(value);
  }
}

const Value* Mapping::find(std::string_view key) const {
  const auto it = texts_.find(key);
  return it == texts_.end() ? nullptr : &items[it->second].second;
}

const Value* Mapping::find_key(const Value& key) const {
  if (key.text()) return find(*key.text());
  const auto it = others_.find(key_identity(key));
  return it == others_.end() ? nullptr : &items[it->second].second;
}

bool Value::truth() const {
  if (is<bool>()) return std::get<bool>(data_);
  if (is<std::int64_t>()) return std::get<std::int64_t>(data_) != 0;
  if (is<double>()) return std::get<double>(data_) != 0;
  if (text()) return !text()->empty();
  if (seq()) return seq()->kind == Sequence::Kind::kGenerator || !seq()->items.empty();
  if (map()) return !map()->items.empty();
  return !undefined() && !none();
}

std::int64_t Value::integer(const char* what) const {
  require_defined();
  if (is<bool>()) return std::get<bool>(data_);
  if (!is<std::int64_t>()) fail(std::string(what) + " must be an integer, not " + type_name());
  return std::get<std::int64_t>(data_);
}

double Value::number(const char* what) const {
  if (is<double>()) return std::get<double>(data_);
  if (!is_integer()) require_defined(), fail(std::string(what) + " must be a number, not " + type_name());
  return static_cast<double>(integer(what));
}

const char* Value::type_name() const {
  constexpr std::array kNames = {"Undefined", "NoneType", "bool",      "int",      "float",      "str",
                                 "list",      "dict",     "Namespace", "function", "LoopContext"};
  if (const Sequence* sequence = seq()) {
    constexpr std::array kSequences = {"list", "tuple", "dict view", "generator"};
    return kSequences[static_cast<std::size_t>(sequence->kind)];
  }
  return kNames[data_.index()];
}

const Value* Arguments::find(std::size_t i, std::string_view parameter) {
  num_taken_ = std::max(num_taken_, i + 1);
  return i < values.size() ? &values[i] : find_named(parameter);
}

const Value* Arguments::find_named(std::string_view parameter) {
  const auto it = std::ranges::find(named, parameter, &Named::value_type::first);
  if (it == named.end()) return nullptr;
  ++num_named_taken_;
  return &it->second;
}

const Value& Arguments::require(std::size_t i, std::string_view parameter) {
  const Value* value = find(i, parameter);
  if (!value) fail(std::string(name) + "() misses its argument '" + std::string(parameter) + "'");
  return *value;
}

Value Arguments::get(std::size_t i, std::string_view parameter, Value otherwise) {
  const Value* value = find(i, parameter);
  return value ? *value : otherwise;
}

void Arguments::finish() const {
  if (values.size() > num_taken_ || named.size() > num_named_taken_)
    fail(std::string(name) + "() got arguments that it does not take");
}

std::string to_text(const Value& value, Budget& budget) {
  std::string out;
  write(value, false, out, budget);
  return out;
}

std::string to_repr(const Value& value, Budget& budget) {
  std::string out;
  write(value, true, out, budget);
  return out;
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  const Nesting nesting(budget);
  budget.spend_steps(1);
  if (a.is_integer() && b.is_integer()) return a.integer("") == b.integer("");
  if (a.is_number() && b.is_number()) return numbers(a, b).first == numbers(a, b).second;
  if (a.data().index() != b.data().index()) return false;
  if (a.text()) return *a.text() == *b.text();
  if (a.seq())
    return a.seq() == b.seq() ||
           (a.seq()->kind == b.seq()->kind && equal_items(a.seq()->items, b.seq()->items, budget));
  if (const Mapping* x = a.map(), *y = b.map(); x) {
    if (x == y) return true;
    return x->items.size() == y->items.size() && std::ranges::all_of(x->items, [&](const auto& item) {
             const Value* other = y->find_key(item.first);
             return other && equal(item.second, *other, budget);
           });
  }
  return a.ns() == b.ns() && a.function() == b.function() && a.loop() == b.loop();
}

bool less(const Value& a, const Value& b, Budget& budget) {
  const Nesting nesting(budget);
  budget.spend_steps(1);
  a.require_defined(), b.require_defined();
  if (a.is_integer() && b.is_integer()) return a.integer("") < b.integer("");
  if (a.is_number() && b.is_number()) return numbers(a, b).first < numbers(a, b).second;
  if (a.text() && b.text()) return *a.text() < *b.text();  // UTF-8 orders as code points do
  const Sequence *x = a.seq(), *y = b.seq();
  if (!x || !y || x->kind != y->kind || x->kind > Sequence::Kind::kTuple)
    fail(std::string("'<' is not supported between '") + a.type_name() + "' and '" + b.type_name() + "'");
  for (std::size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i)
    if (!equal(x->items[i], y->items[i], budget)) return less(x->items[i], y->items[i], budget);
  return x->items.size() < y->items.size();
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (const std::string* text = container.text()) {
    item.require_defined();
    if (!item.text()) fail(std::string("'in <string>' requires a string, not ") + item.type_name());
    budget.spend_steps(text->size() / 64);
    return text->find(*item.text()) != text->npos;
  }
  if (const Mapping* map = container.map()) return map->find_key(item);
  const Values items = iterate(container, budget);
  return std::ranges::any_of(items, [&](const Value& other) { return equal(other, item, budget); });
}

Values iterate(const Value& value, Budget& budget) {
  Values items;
  if (const Sequence* seq = value.seq()) {
    items.assign(seq->items.begin() + static_cast<std::ptrdiff_t>(seq->consumed), seq->items.end());
    if (seq->kind == Sequence::Kind::kGenerator) seq->consumed = seq->items.size();
  } else if (const std::string* text = value.text()) {
    for (std::string_view character : characters(*text)) items.emplace_back(character);
  } else if (const Mapping* map = value.map()) {
    for (const auto& item : map->items) items.emplace_back(item.first);
  } else if (!value.undefined()) {
    fail(std::string("'") + value.type_name() + "' object is not iterable");
  }
  budget.spend_bytes(items.size() * sizeof(Value));
  return items;
}

std::size_t length(const Value& value) {
  if (value.text()) return num_characters(*value.text());
  if (value.map()) return value.map()->items.size();
  if (value.seq() && value.seq()->kind != Sequence::Kind::kGenerator) return value.seq()->items.size();
  if (!value.undefined()) fail(std::string("object of type '") + value.type_name() + "' has no len()");
  return 0;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string text(buffer, end);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) {  // 1.5e-07: at least two digits, as to_chars writes them
    return text;
  }
  const int num_decimals = std::max(static_cast<int>(e) - (text[0] == '-') - 2, 0) - exponent;
  char* fixed_end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed,
                                  std::max(num_decimals, 1))
                        .ptr;
  return std::string(buffer, fixed_end);
}

}  // namespace redline::jinja
