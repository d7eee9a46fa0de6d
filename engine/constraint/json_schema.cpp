#include "engine/constraint/json_schema.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/constraint/number_range.h"
#include "engine/constraint/regex_grammar.h"
#include "engine/constraint/schema_merge.h"
#include "engine/constraint/string_format.h"

namespace redline {
namespace {

using Json = SchemaJson;
using Expression = Grammar::Expression;
using Deadline = std::chrono::steady_clock::time_point;

constexpr int kMaxDepth = 100;               // of schemas in each other
constexpr std::size_t kMaxSchemas = 20'000;  // that are looked at

// Keywords that say something about values and are not supported, but where they say nothing.
void refuse_unsupported(const Json& schema, const std::string& at) {
  static const std::map<std::string, Json> kUnsupported = {{"not", nullptr},
                                                           {"if", nullptr},
                                                           {"then", nullptr},
                                                           {"else", nullptr},
                                                           {"dependentRequired", Json::object()},
                                                           {"dependentSchemas", Json::object()},
                                                           {"dependencies", Json::object()},
                                                           {"contains", nullptr},
                                                           {"minContains", nullptr},
                                                           {"maxContains", nullptr},
                                                           {"unevaluatedItems", true},
                                                           {"unevaluatedProperties", true},
                                                           {"patternProperties", Json::object()},
                                                           {"propertyNames", true},
                                                           {"minProperties", 0},
                                                           {"maxProperties", nullptr},
                                                           {"uniqueItems", false},
                                                           {"multipleOf", nullptr},
                                                           {"$dynamicRef", nullptr},
                                                           {"$recursiveRef", nullptr},
                                                           {"additionalItems", true}};
  for (const auto& [key, value] : schema.items()) {
    const auto found = kUnsupported.find(key);
    if (found != kUnsupported.end() && found->second != value) fail_at(at + "/" + key, "is not supported");
  }
}

std::string escaped(const std::string& name) {
  std::string pointer;
  for (const char c : name) pointer += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return pointer;
}

bool has_type(const Json& value, const std::string& type) {
  if (type == "integer")
    return value.is_number_integer() ||
           (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
  return type == "string"    ? value.is_string()
         : type == "number"  ? value.is_number()
         : type == "boolean" ? value.is_boolean()
         : type == "null"    ? value.is_null()
         : type == "object"  ? value.is_object()
                             : value.is_array();
}

class SchemaCompiler {
 public:
  SchemaCompiler(JsonGrammar& json, const Json& root, Deadline deadline)
      : json_(json), grammar_(json.grammar()), root_(root), deadline_(deadline) {}

  Expression schema(const Json& schema, const std::string& at) {
    if (++num_schemas_ > kMaxSchemas) fail_at("", "more than " + std::to_string(kMaxSchemas) + " schemas");
    if (std::chrono::steady_clock::now() > deadline_) fail_at("", "takes too long to compile");
    const Deeper deeper(depth_);
    if (depth_ > kMaxDepth) fail_at(at, "schemas nest deeper than " + std::to_string(kMaxDepth));
    if (schema.is_boolean()) return schema.get<bool>() ? json_.value() : grammar_.choice({});
    if (!schema.is_object()) fail_at(at, "a schema is an object or a boolean");
    refuse_unsupported(schema, at);
    if (schema.contains("$ref") && says_only(schema, {"$ref"}))
      return reference(schema["$ref"], at + "/$ref");
    if (schema.contains("$ref") || schema.contains("allOf"))
      return this->schema(merged_schema(root_, schema, true, at), at);
    if (schema.contains("anyOf") || schema.contains("oneOf")) return any_of(schema, at);
    if (schema.contains("const")) return values(schema, Json::array({schema["const"]}), "const", at);
    if (schema.contains("enum")) return values(schema, array_at(schema, "enum", at), "enum", at);
    std::vector<Expression> ways;
    for (const std::string& type : types(schema, at)) ways.push_back(of_type(schema, type, at));
    return grammar_.choice(std::move(ways));
  }

 private:
  struct Deeper {
    explicit Deeper(int& of) : depth(of) { ++depth; }
    ~Deeper() { --depth; }
    int& depth;
  };

  static bool says_only(const Json& schema, std::initializer_list<std::string> keywords) {
    return std::ranges::all_of(schema.items(), [&](const auto& entry) {
      return is_annotation(entry.key()) || std::ranges::find(keywords, entry.key()) != keywords.end();
    });
  }

  static const Json& array_at(const Json& schema, const char* key, const std::string& at) {
    if (!schema[key].is_array()) fail_at(at + "/" + key, "expected an array");
    return schema[key];
  }

  static std::optional<std::uint32_t> count_at(const Json& schema, const char* key, const std::string& at) {
    const auto found = schema.find(key);
    if (found == schema.end()) return std::nullopt;
    if (!found->is_number() || !(found->get<double>() >= 0) ||
        std::floor(found->get<double>()) != found->get<double>())
      fail_at(at + "/" + key, "expected an integer, 0 at least");
    if (found->get<double>() > Grammar::kMaxRepeat)
      fail_at(at + "/" + key, "is more than " + std::to_string(Grammar::kMaxRepeat));
    return found->get<std::uint32_t>();
  }

  Expression reference(const Json& reference, const std::string& at) {
    if (!reference.is_string()) fail_at(at, "expected a string");
    const std::string name = reference.get<std::string>();
    const auto [found, is_new] = references_.try_emplace(name, 0);
    if (is_new) {
      const Json& target = referred(root_, name, at);
      const Grammar::Rule rule = grammar_.add_rule(name);
      references_[name] = rule;
      grammar_.define(rule, schema(target, name.substr(1)));
    }
    return grammar_.call(references_[name]);
  }

  Expression any_of(const Json& schema, const std::string& at) {
    if (schema.contains("anyOf") && schema.contains("oneOf"))
      fail_at(at, "anyOf and oneOf at once are not supported");
    const char* key = schema.contains("anyOf") ? "anyOf" : "oneOf";
    const Json& branches = array_at(schema, key, at);
    Json rest = schema;
    rest.erase(key);
    const bool alone = says_only(rest, {});
    std::vector<Expression> ways;
    for (std::size_t i = 0; i < branches.size(); ++i) {
      const std::string place = at + "/" + key + "/" + std::to_string(i);
      ways.push_back(
          this->schema(alone ? branches[i] : merged_schema(root_, rest, branches[i], place), place));
    }
    return grammar_.choice(std::move(ways));
  }

  Expression values(const Json& schema, const Json& allowed, const char* key, const std::string& at) {
    for (const auto& [other, unused] : schema.items())
      if (other != key && other != "type" && !is_annotation(other))
        fail_at(at + "/" + other, std::string("is not supported beside ") + key);
    std::vector<Expression> ways;
    for (const Json& value : allowed) {
      const auto fits = [&](const std::string& type) { return has_type(value, type); };
      if (!schema.contains("type") || std::ranges::any_of(types(schema, at), fits))
        ways.push_back(grammar_.bytes(value.dump()));
    }
    return grammar_.choice(std::move(ways));
  }

  // What `type` says; else what the other keywords are about; else every type.
  static std::vector<std::string> types(const Json& schema, const std::string& at) {
    static const std::vector<std::string> kTypes = {"string", "number", "integer", "boolean",
                                                    "null",   "object", "array"};
    if (const auto found = schema.find("type"); found != schema.end()) {
      std::vector<std::string> names;
      for (const Json& name : found->is_array() ? *found : Json::array({*found})) {
        if (!name.is_string() || std::ranges::find(kTypes, name.get<std::string>()) == kTypes.end())
          fail_at(at + "/type", "expected string, number, integer, boolean, null, object or array");
        names.push_back(name.get<std::string>());
      }
      return names;
    }
    static const std::pair<std::string, std::vector<const char*>> kKeywords[] = {
        {"object", {"properties", "required", "additionalProperties"}},
        {"array", {"items", "prefixItems", "minItems", "maxItems"}},
        {"string", {"minLength", "maxLength", "pattern", "format"}},
        {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}}};
    std::vector<std::string> implied;
    for (const auto& [type, keywords] : kKeywords)
      if (std::ranges::any_of(keywords, [&](const char* key) { return schema.contains(key); }))
        implied.push_back(type);
    return implied.empty() ? std::vector<std::string>{"any"} : implied;
  }

  Expression of_type(const Json& schema, const std::string& type, const std::string& at) {
    if (type == "any") return json_.value();
    if (type == "null") return grammar_.bytes("null");
    if (type == "boolean") return grammar_.choice({grammar_.bytes("true"), grammar_.bytes("false")});
    if (type == "string") return string(schema, at);
    if (type == "integer" || type == "number") return number(schema, type == "integer", at);
    // A rule each, so that they do not nest as expressions.
    const Grammar::Rule rule = grammar_.add_rule(type + " at " + (at.empty() ? "#" : at));
    grammar_.define(rule, type == "object" ? object(schema, at) : array(schema, at));
    return grammar_.call(rule);
  }

  Expression string(const Json& schema, const std::string& at) {
    const auto min = count_at(schema, "minLength", at), max = count_at(schema, "maxLength", at);
    const bool has_pattern = schema.contains("pattern"), has_format = schema.contains("format");
    if (has_pattern + has_format + (min.value_or(0) > 0 || max) > 1)
      fail_at(at, "only one of pattern, format, and minLength with maxLength is supported at a time");
    const char* key = has_pattern ? "pattern" : "format";
    if (!has_pattern && !has_format) return json_.string(min.value_or(0), max.value_or(Grammar::kUnbounded));
    if (!schema[key].is_string()) fail_at(at + "/" + key, "expected a string");
    std::string pattern = schema[key].get<std::string>();
    if (has_format) {
      const auto known = format_pattern(pattern);
      if (!known)
        fail_at(at + "/format",
                "'" + pattern.substr(0, 60) + "' is not supported; " + format_names() + " are");
      pattern = *known;
    }
    try {
      return json_.quoted(regex_expression(grammar_, pattern,
                                           has_format ? RegexMatches::kWhole : RegexMatches::kSomewhere,
                                           [this](const auto& ranges) { return json_.characters(ranges); }));
    } catch (const GrammarError& error) {
      fail_at(at + "/" + key, error.what());
    }
  }

  Expression number(const Json& schema, bool integer, const std::string& at) {
    const auto bound = [&](const char* key, const char* exclusive_key,
                           double sign) -> std::optional<NumberBound> {
      std::optional<NumberBound> tightest;
      for (const auto& [name, exclusive] : {std::pair(key, false), std::pair(exclusive_key, true)}) {
        const auto found = schema.find(name);
        if (found == schema.end()) continue;
        if (!found->is_number() || !std::isfinite(found->get<double>()))
          fail_at(at + "/" + name, "expected a number");
        const double value = found->get<double>();
        if (!tightest || sign * value >= sign * tightest->value) tightest = NumberBound{value, exclusive};
      }
      return tightest;
    };
    const auto least = bound("minimum", "exclusiveMinimum", 1),
               most = bound("maximum", "exclusiveMaximum", -1);
    if (!least && !most) return integer ? json_.integer() : json_.number();
    try {
      return integer ? integer_within(grammar_, least, most) : number_within(grammar_, least, most);
    } catch (const GrammarError& error) {
      fail_at(at, error.what());
    }
  }

  Expression array(const Json& schema, const std::string& at) {
    const std::uint32_t min = count_at(schema, "minItems", at).value_or(0);
    const std::uint32_t max = count_at(schema, "maxItems", at).value_or(Grammar::kUnbounded);
    if (min > max) return grammar_.choice({});
    std::vector<Expression> first;
    if (schema.contains("prefixItems")) {
      const Json& items = array_at(schema, "prefixItems", at);
      for (std::size_t i = 0; i < items.size() && first.size() < max; ++i)
        first.push_back(this->schema(items[i], at + "/prefixItems/" + std::to_string(i)));
    }
    const auto num_first = static_cast<std::uint32_t>(first.size());
    const std::uint32_t least = min > num_first ? min - num_first : 0;
    std::uint32_t most = max == Grammar::kUnbounded ? max : max - num_first;
    std::optional<Expression> more;
    if (const auto items = schema.find("items"); items != schema.end()) {
      if (*items == false)
        most = 0;
      else
        more = this->schema(*items, at + "/items");
    } else {
      if (num_first > 0)
        most = std::min(most, least);  // beyond those that are described only as many as must be
      more = json_.value();
    }
    if (least > most) return grammar_.choice({});
    return json_.list('[', ']', first, more, least, most);
  }

  struct Property {
    std::string name;
    Expression member = 0;
    bool required = false;
  };

  std::vector<Property> properties(const Json& schema, const std::string& at) {
    std::vector<Property> found;
    std::set<std::string> required;
    if (schema.contains("required"))
      for (const Json& name : array_at(schema, "required", at)) {
        if (!name.is_string()) fail_at(at + "/required", "expected strings");
        required.insert(name.get<std::string>());
      }
    const auto add = [&](const std::string& name, const Json& property, const std::string& place) {
      if (property == false && !required.contains(name)) return;  // never there
      found.push_back({name, json_.member(grammar_.bytes(Json(name).dump()), this->schema(property, place)),
                       required.contains(name)});
      required.erase(name);
    };
    std::set<std::string> named;
    if (const auto all = schema.find("properties"); all != schema.end()) {
      if (!all->is_object()) fail_at(at + "/properties", "expected an object");
      for (const auto& [name, property] : all->items()) {
        named.insert(name);
        add(name, property, at + "/properties/" + escaped(name));
      }
    }
    const Json additional =
        schema.contains("additionalProperties") ? schema["additionalProperties"] : Json(true);
    for (const std::string& name : std::set(required))
      if (!named.contains(name)) add(name, additional, at + "/additionalProperties");
    return found;
  }

  // ", key: value" for each property from the i-th on that is there, and then what is additional, is a rule,
  // so that the first property, whichever it is, can go on with it.
  Expression object(const Json& schema, const std::string& at) {
    const std::vector<Property> all = properties(schema, at);
    const bool names_some = schema.contains("properties") && !schema["properties"].empty();
    const Json extra =
        schema.contains("additionalProperties") ? schema["additionalProperties"] : Json(!names_some);
    std::optional<Expression> additional;
    if (extra != false) {
      std::vector<std::string> names;
      for (const Property& property : all) names.push_back(property.name);
      if (schema.contains("properties"))
        for (const auto& [name, unused] : schema["properties"].items()) names.push_back(name);
      const Expression key = names.empty() ? json_.string() : json_.string_other_than(names);
      additional = json_.member(key, this->schema(extra, at + "/additionalProperties"));
    }
    const auto then = [&](Expression member) { return grammar_.sequence({json_.comma(), member}); };
    Expression rest =
        additional ? grammar_.repeat(then(*additional), 0, Grammar::kUnbounded) : grammar_.empty();
    std::vector<Expression> beginnings;
    const auto first_required = std::ranges::find(all, true, &Property::required);
    if (first_required == all.end()) {
      if (additional) beginnings.push_back(grammar_.sequence({*additional, rest}));
      beginnings.push_back(grammar_.empty());
    }
    for (std::size_t i = all.size(); i-- > 0;) {
      if (i <= static_cast<std::size_t>(first_required - all.begin()))
        beginnings.push_back(grammar_.sequence({all[i].member, rest}));
      if (i == 0) break;
      const Expression next = then(all[i].member);
      const Grammar::Rule rule = grammar_.add_rule("after " + std::to_string(i) + " properties");
      grammar_.define(rule, grammar_.sequence({all[i].required ? next : grammar_.optional(next), rest}));
      rest = grammar_.call(rule);
    }
    std::ranges::reverse(beginnings);
    return grammar_.sequence({grammar_.bytes("{"), json_.space(), grammar_.choice(std::move(beginnings)),
                              json_.space(), grammar_.bytes("}")});
  }

  JsonGrammar& json_;
  Grammar& grammar_;
  const Json& root_;
  const Deadline deadline_;
  std::map<std::string, Grammar::Rule> references_;
  int depth_ = 0;
  std::size_t num_schemas_ = 0;
};

Grammar with_root(const std::function<Expression(Grammar&)>& body) {
  Grammar grammar;
  const Grammar::Rule root = grammar.add_rule("root");
  grammar.define(root, body(grammar));
  return grammar;
}

}  // namespace

Expression json_schema_expression(JsonGrammar& json, const Json& schema, Deadline deadline) {
  return SchemaCompiler(json, schema, deadline).schema(schema, "");
}

Grammar json_schema_grammar(const Json& schema, Deadline deadline) {
  return with_root([&](Grammar& grammar) {
    JsonGrammar json(grammar);
    return json_schema_expression(json, schema, deadline);
  });
}

Grammar json_object_grammar() {
  return with_root([](Grammar& grammar) { return JsonGrammar(grammar).object(); });
}

Grammar regex_grammar(std::string_view pattern) {
  return with_root([&](Grammar& grammar) {
    return regex_expression(grammar, pattern, RegexMatches::kWhole,
                            [&](const auto& ranges) { return grammar.characters(ranges); });
  });
}

Grammar choice_grammar(const std::vector<std::string>& texts) {
  return with_root([&](Grammar& grammar) {
    std::vector<Expression> ways;
    for (const std::string& text : texts) ways.push_back(grammar.bytes(text));
    return grammar.choice(std::move(ways));
  });
}

}  // namespace redline
