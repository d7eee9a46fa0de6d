#include <algorithm>
#include <memory>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/format_text.h"
#include "engine/chat_template/python_text.h"

namespace redline::jinja {
namespace {

const std::string& text_argument(Arguments& a, std::size_t i, std::string_view name) {
  const Value& value = a.require(i, name);
  value.require_defined();
  if (!value.text()) fail(std::string(a.name) + "() needs a string, not " + value.type_name());
  return *value.text();
}

// ---- str

Value strip_method(const std::string& s, Arguments& a, bool left, bool right) {
  const Value chars = a.get(0, "chars", {});
  a.finish();
  if (chars.none()) return strip(s, left, right);
  if (!chars.text()) fail("strip() needs a string");
  return strip(s, left, right, *chars.text());
}
Value strip_both(const std::string& s, Arguments& a, Budget&) { return strip_method(s, a, true, true); }
Value lstrip(const std::string& s, Arguments& a, Budget&) { return strip_method(s, a, true, false); }
Value rstrip(const std::string& s, Arguments& a, Budget&) { return strip_method(s, a, false, true); }

using Splitter = std::vector<std::string_view> (*)(std::string_view, std::optional<std::string_view>, long);
template <Splitter splitter>
Value split_method(const std::string& s, Arguments& a, Budget& budget) {
  const Value separator = a.get(0, "sep", {}), limit = a.get(1, "maxsplit", -1);
  a.finish();
  if (!separator.none() && (!separator.text() || separator.text()->empty()))
    fail("split() needs a separator");
  const auto by = separator.none() ? std::nullopt : std::optional<std::string_view>(*separator.text());
  Values parts;
  for (std::string_view part : splitter(s, by, static_cast<long>(limit.integer("maxsplit"))))
    parts.emplace_back(part);
  budget.spend_bytes(parts.size() * sizeof(Value) + s.size());
  return Value::list(std::move(parts));
}

Value splitlines(const std::string& s, Arguments& a, Budget& budget) {
  const bool keep = a.get(0, "keepends", false).truth();
  a.finish();
  Values lines;
  for (std::string_view line : split_lines(s, keep)) lines.emplace_back(line);
  budget.spend_bytes(lines.size() * sizeof(Value) + s.size());
  return Value::list(std::move(lines));
}

template <bool kStart>
Value affix_test(const std::string& s, Arguments& a, Budget&) {
  const Value affix = a.require(0, "prefix");
  a.finish();
  const auto matches = [&](const Value& v) {
    v.require_defined();
    if (!v.text()) fail(std::string(a.name) + "() needs a string or a tuple of them");
    return kStart ? s.starts_with(*v.text()) : s.ends_with(*v.text());
  };
  const Sequence* choices = affix.seq();
  return choices && choices->kind == Sequence::Kind::kTuple ? std::ranges::any_of(choices->items, matches)
                                                            : matches(affix);
}

template <std::string (*map)(std::string_view)>
Value mapped(const std::string& s, Arguments& a, Budget& budget) {
  a.finish();
  budget.spend_bytes(s.size());
  return map(s);
}

Value replace(const std::string& s, Arguments& a, Budget& budget) {
  const std::string old = text_argument(a, 0, "old"), with = text_argument(a, 1, "new");
  std::int64_t count = a.get(2, "count", -1).integer("count");
  a.finish();
  std::string out;
  std::size_t at = 0;
  for (; count != 0; --count) {
    const std::size_t found = s.find(old, at);
    if (found == s.npos) break;
    const std::size_t step = old.empty() && found < s.size() ? characters(s.substr(found, 4))[0].size() : 0;
    budget.spend_bytes(with.size() + 1);
    out.append(s, at, found - at).append(with).append(s, found, step);
    at = found + old.size() + step;
    if (old.empty() && step == 0) break;
  }
  if (at < s.size()) out.append(s, at);
  budget.spend_bytes(s.size());
  return out;
}

template <bool kLast, bool kMustExist>
Value find(const std::string& s, Arguments& a, Budget&) {
  const std::string& part = text_argument(a, 0, "sub");
  a.finish();
  const std::size_t at = kLast ? s.rfind(part) : s.find(part);
  if (at != s.npos) return num_characters(std::string_view(s).substr(0, at));
  if (kMustExist) fail("substring not found");
  return -1;
}

Value count(const std::string& s, Arguments& a, Budget&) {
  const std::string& part = text_argument(a, 0, "sub");
  a.finish();
  if (part.empty()) return num_characters(s) + 1;
  std::int64_t number = 0;
  for (std::size_t at = s.find(part); at != s.npos; at = s.find(part, at + part.size())) ++number;
  return number;
}

Value join(const std::string& s, Arguments& a, Budget& budget) {
  const Value items = a.require(0, "iterable");
  a.finish();
  std::string out;
  bool first = true;
  for (const Value& item : iterate(items, budget)) {
    item.require_defined();
    if (!item.text()) fail(std::string("join() needs strings, not ") + item.type_name());
    budget.spend_bytes(s.size() + item.text()->size());
    if (!first) out += s;
    first = false;
    out += *item.text();
  }
  return out;
}

template <bool kPrefix>
Value without_affix(const std::string& s, Arguments& a, Budget&) {
  const std::string& affix = text_argument(a, 0, "affix");
  a.finish();
  if (kPrefix) return s.starts_with(affix) ? s.substr(affix.size()) : s;
  return s.ends_with(affix) ? s.substr(0, s.size() - affix.size()) : s;
}

Value format(const std::string& s, Arguments& a, Budget& budget) { return format_braces(s, a, budget); }

// ljust ('<'), rjust ('>'), center ('^').
template <char kAlign>
Value justify(const std::string& s, Arguments& a, Budget& budget) {
  const std::int64_t width = a.require(0, "width").integer("width");
  const Value fill = a.get(1, "fillchar", " ");
  a.finish();
  if (!fill.text() || num_characters(*fill.text()) != 1)
    fail("The fill character must be exactly one character long");
  return padded(s, *fill.text(), kAlign, width, budget);
}

Value zfill(const std::string& s, Arguments& a, Budget& budget) {
  const std::int64_t width = a.require(0, "width").integer("width");
  a.finish();
  const std::size_t sign = s.starts_with('-') || s.starts_with('+');
  return s.substr(0, sign) +
         padded(s.substr(sign), "0", '>', width - static_cast<std::int64_t>(sign), budget);
}

template <bool kLast>
Value partition(const std::string& s, Arguments& a, Budget& budget) {
  const std::string& separator = text_argument(a, 0, "sep");
  a.finish();
  if (separator.empty()) fail("empty separator");
  budget.spend_bytes(s.size());
  const std::size_t at = kLast ? s.rfind(separator) : s.find(separator);
  if (at == s.npos) return kLast ? Value::tuple({"", "", s}) : Value::tuple({s, "", ""});
  return Value::tuple({s.substr(0, at), separator, s.substr(at + separator.size())});
}

Value is_kind(const std::string& s, Arguments& a, Budget&) {
  a.finish();
  return is_all(s, a.name.substr(2));  // "isalpha"
}

using StrMethod = Value (*)(const std::string&, Arguments&, Budget&);
constexpr std::pair<std::string_view, StrMethod> kStrMethods[] = {
    {"strip", strip_both},
    {"lstrip", lstrip},
    {"rstrip", rstrip},
    {"split", split_method<split>},
    {"rsplit", split_method<rsplit>},
    {"splitlines", splitlines},
    {"startswith", affix_test<true>},
    {"endswith", affix_test<false>},
    {"upper", mapped<upper>},
    {"lower", mapped<lower>},
    {"capitalize", mapped<capitalize>},
    {"title", mapped<title>},
    {"replace", replace},
    {"find", find<false, false>},
    {"rfind", find<true, false>},
    {"index", find<false, true>},
    {"rindex", find<true, true>},
    {"count", count},
    {"join", join},
    {"removeprefix", without_affix<true>},
    {"removesuffix", without_affix<false>},
    {"format", format},
    {"ljust", justify<'<'>},
    {"rjust", justify<'>'>},
    {"center", justify<'='>},
    {"zfill", zfill},
    {"partition", partition<false>},
    {"rpartition", partition<true>},
    {"isalpha", is_kind},
    {"isdigit", is_kind},
    {"isdecimal", is_kind},
    {"isnumeric", is_kind},
    {"isalnum", is_kind},
    {"isupper", is_kind},
    {"islower", is_kind},
    {"isspace", is_kind},
};

// ---- dict, list, loop

Value call_mapping(const Mapping& map, Arguments& a, Budget& budget) {
  if (a.name == "get") {
    const Value key = a.require(0, "key"), otherwise = a.get(1, "default", {});
    a.finish();
    const Value* found = map.find_key(key);
    return found ? *found : otherwise;
  }
  a.finish();
  Values view;
  for (const auto& [key, value] : map.items)
    view.push_back(a.name == "keys" ? key : a.name == "values" ? value : Value::tuple({key, value}));
  budget.spend_bytes(view.size() * sizeof(Value));
  return Value::sequence(Sequence::Kind::kView, std::move(view));
}

Value call_sequence(const Sequence& seq, Arguments& a, Budget& budget) {
  const Value wanted = a.require(0, "value");
  a.finish();
  std::int64_t number = 0;
  for (std::size_t i = 0; i < seq.items.size(); ++i) {
    if (!equal(seq.items[i], wanted, budget)) continue;
    if (a.name == "index") return i;
    ++number;
  }
  if (a.name == "index") fail("the value is not in the list");
  return number;
}

Value call_loop(Loop& loop, Arguments& a, Budget& budget) {
  const Values values = std::move(a.values);
  if (!a.named.empty()) fail("loop." + std::string(a.name) + "() takes no named arguments");
  if (a.name == "cycle") {
    if (values.empty()) fail("no items for cycling given");
    return values[loop.index0 % values.size()];
  }
  if (loop.last_changed && equal(Value::list(*loop.last_changed), Value::list(values), budget)) return false;
  loop.last_changed = std::make_shared<Values>(values);
  return true;
}

}  // namespace

bool has_method(const Value& self, std::string_view name) {
  if (self.text())
    return std::ranges::find(kStrMethods, name, &std::pair<std::string_view, StrMethod>::first) !=
           std::end(kStrMethods);
  if (self.map()) return name == "items" || name == "keys" || name == "values" || name == "get";
  if (self.seq()) return self.seq()->kind <= Sequence::Kind::kTuple && (name == "index" || name == "count");
  return self.loop() && (name == "cycle" || name == "changed");
}

Value call_method(const Value& self, Arguments& a, Budget& budget) {
  if (const Mapping* map = self.map()) return call_mapping(*map, a, budget);
  if (const Sequence* seq = self.seq()) return call_sequence(*seq, a, budget);
  if (Loop* loop = self.loop()) return call_loop(*loop, a, budget);
  const auto* row = std::ranges::find(kStrMethods, a.name, &std::pair<std::string_view, StrMethod>::first);
  budget.spend_steps(self.text()->size() / 64);
  if (self.safe() && a.name == "replace" && a.values.size() > 1 && a.values[1].text() && !a.values[1].safe())
    a.values[1] = html_escaped(*a.values[1].text());
  const Value result = row->second(*self.text(), a, budget);
  return self.safe() && result.text() ? result.as_safe() : result;
}

Value bound_method(const Value& self, std::string_view name, Budget& budget) {
  return Function{std::string(name), [self, &budget](Arguments& a) { return call_method(self, a, budget); }};
}

}  // namespace redline::jinja
