#include "engine/constraint/json_schema.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "engine/constraint/constraint.h"
#include "engine/constraint/tool_grammar.h"
#include "engine/regex.h"
#include "engine/utf8.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

Clock::time_point soon() { return Clock::now() + std::chrono::seconds(20); }

// Every byte, and tokens that cross the borders of JSON's parts.
const std::vector<std::string>& texts() {
  static const std::vector<std::string> kTexts = [] {
    std::vector<std::string> all;
    for (int byte = 0; byte < 256; ++byte) all.emplace_back(1, static_cast<char>(byte));
    for (const char* text :
         {"{\"",  "\":",    "\": ",         "\": \"",   "\", \"", "\"}", "}]",    "}}",  "],",
          "\"],", "true",   "false",        "null",     " \"",    ", ",  "\\u00", "\\u", "\\\"",
          "\\n",  "\u00e9", "\u4f60\u597d", "\xC3",     "\xA9\"", "12",  "-1",    "0.",  ".5",
          "e+",   "name",   "value",        "items\":", "[[",     "{}",  "[]",    " \n", "\n  "})
      all.push_back(text);
    return all;
  }();
  return kTexts;
}

std::shared_ptr<Constraint> compiled(const Grammar& grammar) {
  static const auto vocabulary = std::make_shared<const ConstraintVocabulary>(texts());
  return std::make_shared<Constraint>(grammar, vocabulary, soon());
}
std::shared_ptr<Constraint> compiled(const Json& schema) {
  return compiled(json_schema_grammar(schema, soon()));
}

bool takes(const std::shared_ptr<Constraint>& constraint, std::string_view text) {
  Matcher matcher(constraint);
  for (const char byte : text)
    if (!matcher.advance(static_cast<unsigned char>(byte))) return false;
  return matcher.may_end();
}

std::string refusal(const Json& schema) {
  try {
    compiled(schema);
  } catch (const GrammarError& error) {
    return error.what();
  }
  return "";
}

/// A text that a model without any sense might write: each token is any that is allowed, with a liking for
/// ends.
std::string random_text(const std::shared_ptr<Constraint>& constraint, std::mt19937& random) {
  Matcher matcher(constraint);
  std::string text;
  for (int step = 0; step < 20000; ++step) {
    if (matcher.complete() || (matcher.may_end() && random() % 2 == 0)) return text;
    const auto mask = matcher.allowed();
    std::vector<TokenId> allowed, ends;
    for (TokenId id = 0; id < std::ssize(texts()); ++id) {
      if (!mask->has(id)) continue;
      allowed.push_back(id);
      const char last = texts()[static_cast<std::size_t>(id)].back();
      if (last == '"' || last == '}' || last == ']') ends.push_back(id);
    }
    if (allowed.empty()) {
      ADD_FAILURE() << "nothing is allowed after " << text;
      return text;
    }
    const auto& among = !ends.empty() && random() % 3 != 0 ? ends : allowed;
    const TokenId token = among[random() % among.size()];
    EXPECT_TRUE(matcher.advance(token));
    text += texts()[static_cast<std::size_t>(token)];
  }
  ADD_FAILURE() << "no end after " << text.substr(0, 300);
  return text;
}

struct Case {
  const char* schema;
  std::vector<const char*> accepted, refused;
};

TEST(JsonSchema, AcceptsAndRefusesAsWritten) {
  const Case kCases[] = {
      {R"j({"type":"string"})j",
       {R"j("")j", R"j("a\n\u00e9\ud83d\ude00é你")j"},
       {R"j("a)j", "\"\n\"", R"j("\ud83d")j", R"j("\x")j", "1"}},
      {R"j({"type":"string","minLength":2,"maxLength":3})j",
       {R"j("ab")j", R"j("é\n你")j"},
       {R"j("a")j", R"j("abcd")j"}},
      {R"j({"type":"integer"})j",
       {"0", "-17", "1234567890123456"},
       {"01", "1.0", "-", "+1", "12345678901234567"}},
      {R"j({"type":"number"})j", {"0", "-1.5", "2e10", "2.5E-3"}, {"1.", ".5", "1e", "00", "NaN"}},
      {R"j({"type":"boolean"})j", {"true", "false"}, {"True", "null"}},
      {R"j({"type":["string","null"]})j", {R"j("x")j", "null"}, {"1"}},
      {R"j({"enum":["a","é",1,null,{"x":[1]}]})j",
       {R"j("a")j", R"j("é")j", "1", "null", R"j({"x":[1]})j"},
       {R"j("b")j", "2"}},
      {R"j({"enum":["a",1],"type":"string"})j", {R"j("a")j"}, {"1"}},
      {R"j({"const":"x\"y"})j", {R"j("x\"y")j"}, {R"j("x")j"}},
      {R"j({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})j",
       {"[1]", "[ 1, 2 , 3 ]", "[\n  1,\n  2\n]"},
       {"[]", "[1,2,3,4]", "[1,]"}},
      {R"j({"type":"array","items":{"type":"null"}})j", {"[]", "[null,null]"}, {"[1]"}},
      {R"j({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})j",
       {R"j([1,"a"])j"},
       {"[1]", R"j([1,"a",2])j"}},
      {R"j({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},"maxItems":3})j",
       {"[1]", "[1,null,null]"},
       {"[1,null,null,null]", "[null]"}},
      {R"j({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a","b"],"additionalProperties":false})j",
       {R"j({"a":1,"b":"x"})j", "{ \"a\": 1,\n\t\"b\": \"\" }"},
       {R"j({"b":"x","a":1})j", R"j({"a":1})j", R"j({"a":1,"b":"x","c":1})j", R"j({"a":1 "b":"x"})j"}},
      {R"j({"properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}}})j",
       {"{}", R"j({"a":1})j", R"j({"b":1})j", R"j({"c":1})j", R"j({"a":1,"c":1})j", R"j({"b":1,"c":1})j",
        R"j({"a":1,"b":1,"c":1})j"},
       {R"j({"c":1,"a":1})j", R"j({"d":1})j", "{,}"}},
      {R"j({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":{"type":"null"}})j",
       {R"j({"a":1})j", R"j({"a":1,"x":null,"ab":null,"":null,"\"":null})j"},
       {R"j({"a":1,"a":null})j", R"j({"x":null})j", R"j({"a":1,"x":1})j", R"j({"a":1,"\u0061":null})j"}},
      {R"j({"type":"object","additionalProperties":{"type":"integer"}})j",
       {"{}", R"j({"x":1,"y":2})j"},
       {R"j({"x":"1"})j"}},
      {R"j({"type":"object"})j", {"{}", R"j({"x":[{}, null, 1.5, "s", true]})j"}, {"[]"}},
      {R"j({"type":"object","required":["k"]})j",
       {R"j({"k":[1]})j", R"j({"k":1,"l":2})j"},
       {"{}", R"j({"l":2})j"}},
      {R"j({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]})j",
       {"1", R"j("a")j"},
       {R"j("ab")j", "null"}},
      {R"j({"type":"object","properties":{"k":{"type":"string"}},"required":["k"],"oneOf":[{"properties":{"k":{"const":"a"}}},{"properties":{"n":{"type":"integer"}},"required":["n"]}]})j",
       {R"j({"k":"a"})j", R"j({"k":"zz","n":1})j"},
       {R"j({"k":"b"})j", "{}"}},
      {R"j({"allOf":[{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]},{"properties":{"a":{"minimum":3},"b":{"type":"null"}},"required":["b"]}]})j",
       {R"j({"a":3.5,"b":null})j"},
       {R"j({"a":2,"b":null})j", R"j({"a":4})j"}},
      {R"j({"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}},"$ref":"#/$defs/node"})j",
       {R"j({"v":1,"next":null})j", R"j({"v":1,"next":{"v":2,"next":{"v":3,"next":null}}})j"},
       {R"j({"v":1,"next":{}})j"}},
      {R"j({"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#"}}},"required":["kids"]})j",
       {R"j({"kids":[{"kids":[]},{"kids":[{"kids":[]}]}]})j"},
       {R"j({"kids":[1]})j"}},
      {R"j({"type":"string","pattern":"^[a-c]+\\d{2}$"})j",
       {R"j("abc12")j"},
       {R"j("abc1")j", R"j("xabc12")j"}},
      {R"j({"type":"string","pattern":"b"})j", {R"j("abc")j", R"j("b")j"}, {R"j("ac")j"}},
      {R"j({"type":"string","pattern":"^[\"\\\\]\\n$"})j", {R"j("\"\n")j", R"j("\\\n")j"}, {"\"\"\n\""}},
      {R"j({"type":"string","format":"date"})j",
       {R"j("2024-02-29")j", R"j("1999-12-31")j"},
       {R"j("2023-02-29")j", R"j("2024-13-01")j"}},
      {R"j({"type":"string","format":"date-time"})j",
       {R"j("2024-02-29T23:59:59.5+01:30")j", R"j("2024-01-01T00:00:00Z")j"},
       {R"j("2024-01-01")j"}},
      {R"j({"type":"string","format":"uuid"})j",
       {R"j("123e4567-e89b-12d3-a456-426614174000")j"},
       {R"j("123e4567")j"}},
      {R"j({"type":"string","format":"ipv6"})j",
       {R"j("::1")j", R"j("1:2:3:4:5:6:7:8")j", R"j("fe80::1")j"},
       {R"j("1:2:3")j"}},
      {R"j({"type":"string","format":"email"})j", {R"j("a.b@c.example.org")j"}, {R"j("a@b")j"}},
      {"true", {"1", "[]"}, {"x"}},
      {R"j({"description":"anything","default":3,"x-own":1})j", {"null"}, {}},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.schema);
    const auto constraint = compiled(Json::parse(c.schema));
    for (const char* text : c.accepted) EXPECT_TRUE(takes(constraint, text)) << text;
    for (const char* text : c.refused) EXPECT_FALSE(takes(constraint, text)) << text;
  }
}

TEST(JsonSchema, WhatIsNotSupportedOrWrongIsNamedByItsPlace) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"j({"properties":{"a/b":{"multipleOf":3}}})j", "/properties/a~1b/multipleOf: is not supported"},
      {R"j({"items":{"not":{}}})j", "/items/not: is not supported"},
      {R"j({"uniqueItems":true})j", "/uniqueItems: is not supported"},
      {R"j({"$ref":"http://x/y"})j", "/$ref: only references into the schema itself"},
      {R"j({"$ref":"#/$defs/x"})j", "/$ref: there is no #/$defs/x"},
      {R"j({"type":"text"})j", "/type: expected string"},
      {R"j({"type":"string","pattern":"(?=a)"})j", "/pattern: the pattern, at byte 2: looking around"},
      {R"j({"type":"string","pattern":"a\\1"})j", "/pattern: the pattern, at byte 2: \\1 is not supported"},
      {R"j({"type":"string","pattern":"a","minLength":2})j", "only one of pattern"},
      {R"j({"type":"string","format":"iban"})j", "/format: 'iban' is not supported; date,"},
      {R"j({"type":"string","minLength":-1})j", "/minLength: expected an integer"},
      {R"j({"type":"string","maxLength":1e9})j", "/maxLength: is more than 100000"},
      {R"j({"enum":[1],"minimum":1})j", "/minimum: is not supported beside enum"},
      {R"j({"anyOf":[{"items":5}]})j", "/anyOf/0/items: a schema is an object"},
      {R"j({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})j",
       "left recursion"},
      {R"j({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})j", "lead on too often"},
      {R"j({"type":"integer","minimum":3,"maximum":2})j", "no text satisfies"},
      {R"j({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})j", "no text satisfies"},
      {"false", "no text satisfies"},
      {"5", "the schema: a schema is an object"},
  };
  for (const auto& [schema, message] : kCases)
    EXPECT_NE(refusal(Json::parse(schema)).find(message), std::string::npos) << schema << "\n"
                                                                             << refusal(Json::parse(schema));
}

TEST(JsonSchema, IntegerRangesHoldExactlyTheirNumbers) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const int low = static_cast<int>(random() % 2500) - 1250, high = low + static_cast<int>(random() % 1300);
    const bool above = random() % 4 != 0, below = random() % 4 != 0, open = random() % 2 == 0;
    Json schema = {{"type", "integer"}};
    if (above) schema[open ? "exclusiveMinimum" : "minimum"] = low;
    if (below) schema[open ? "exclusiveMaximum" : "maximum"] = high;
    if (refusal(schema) == "no text satisfies the grammar") {
      EXPECT_LT(high - low, 2) << schema;
      continue;
    }
    const auto constraint = compiled(schema);
    for (int i = -3000; i <= 3000; ++i) {
      const bool within =
          (!above || (open ? i > low : i >= low)) && (!below || (open ? i < high : i <= high));
      ASSERT_EQ(takes(constraint, std::to_string(i)), within) << i << " in " << schema;
    }
    EXPECT_EQ(takes(constraint, "-0"), !above && !below);  // without bounds it is as good as 0
    EXPECT_FALSE(takes(constraint, "007"));
  }
}

TEST(JsonSchema, NumberRangesHoldExactlyTheirNumbers) {
  std::mt19937 random(12);
  for (int round = 0; round < 60; ++round) {
    const double low = (static_cast<int>(random() % 2000) - 1000) / (random() % 2 ? 100.0 : 4.0);
    const double high = low + static_cast<int>(random() % 1000) / 100.0;
    const bool above = random() % 4 != 0, below = random() % 4 != 0, open = random() % 2 == 0;
    Json schema = {{"type", "number"}};
    if (above) schema[open ? "exclusiveMinimum" : "minimum"] = low;
    if (below) schema[open ? "exclusiveMaximum" : "maximum"] = high;
    if (refusal(schema) == "no text satisfies the grammar") {
      EXPECT_LT(high - low, 1e-5) << schema;
      continue;
    }
    const auto constraint = compiled(schema);
    for (int i = 0; i < 3000; ++i) {
      const int cents = static_cast<int>(random() % 60000) - 30000;
      std::string text = (cents < 0 ? "-" : "") + std::to_string(std::abs(cents) / 100);
      const int fraction = std::abs(cents) % 100;
      if (fraction % 10 == 0 && fraction > 0)
        text += "." + std::to_string(fraction / 10);
      else if (fraction > 0 || random() % 2)
        text += std::string(".") + static_cast<char>('0' + fraction / 10) +
                static_cast<char>('0' + fraction % 10);
      const double value = std::stod(text);
      if (value == 0 && text[0] == '-') continue;
      const bool within = (!above || (open ? value > low : value >= low)) &&
                          (!below || (open ? value < high : value <= high));
      ASSERT_EQ(takes(constraint, text), within) << text << " in " << schema;
    }
  }
}

// ---- random schemas against a validator of their own

bool is_type(const Json& value, const std::string& type) {
  if (type == "integer") return value.is_number() && std::floor(value.get<double>()) == value.get<double>();
  return type == "string"    ? value.is_string()
         : type == "number"  ? value.is_number()
         : type == "boolean" ? value.is_boolean()
         : type == "null"    ? value.is_null()
         : type == "object"  ? value.is_object()
                             : value.is_array();
}

std::size_t num_characters(const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += utf8_unit(text, at).num_bytes) ++count;
  return count;
}

bool valid(const Json& root, const Json& schema, const Json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [key, rule] : schema.items()) {
    const auto holds = [&](const Json& part) { return valid(root, part, value); };
    if (key == "$ref" && !valid(root, root.at(Json::json_pointer(rule.get<std::string>().substr(1))), value))
      return false;
    if (key == "type") {
      const Json names = rule.is_array() ? rule : Json::array({rule});
      if (std::none_of(names.begin(), names.end(), [&](const Json& name) { return is_type(value, name); }))
        return false;
    }
    if (key == "enum" && std::find(rule.begin(), rule.end(), value) == rule.end()) return false;
    if (key == "const" && value != rule) return false;
    if (key == "anyOf" && std::none_of(rule.begin(), rule.end(), holds)) return false;
    if (key == "allOf" && !std::all_of(rule.begin(), rule.end(), holds)) return false;
    if (value.is_string()) {
      const std::string text = value.get<std::string>();
      if (key == "minLength" && num_characters(text) < rule.get<std::size_t>()) return false;
      if (key == "maxLength" && num_characters(text) > rule.get<std::size_t>()) return false;
      if (key == "pattern" &&
          !Regex::Matcher(Regex(rule.get<std::string>())).find(text, 0, Regex::Empty::kMatches))
        return false;
    }
    if (value.is_number()) {
      const double number = value.get<double>();
      if (key == "minimum" && number < rule.get<double>()) return false;
      if (key == "maximum" && number > rule.get<double>()) return false;
      if (key == "exclusiveMinimum" && number <= rule.get<double>()) return false;
      if (key == "exclusiveMaximum" && number >= rule.get<double>()) return false;
    }
    if (value.is_array()) {
      const std::size_t first = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
      if (key == "minItems" && value.size() < rule.get<std::size_t>()) return false;
      if (key == "maxItems" && value.size() > rule.get<std::size_t>()) return false;
      for (std::size_t i = 0; i < value.size(); ++i) {
        if (key == "prefixItems" && i < first && !valid(root, rule[i], value[i])) return false;
        if (key == "items" && i >= first && !valid(root, rule, value[i])) return false;
      }
    }
    if (value.is_object()) {
      if (key == "required")
        for (const Json& name : rule)
          if (!value.contains(name.get<std::string>())) return false;
      for (const auto& [name, member] : value.items()) {
        const bool named = schema.contains("properties") && schema["properties"].contains(name);
        if (key == "properties" && named && !valid(root, rule[name], member)) return false;
        if (key == "additionalProperties" && !named && !valid(root, rule, member)) return false;
      }
    }
  }
  return true;
}

struct RandomSchema {
  explicit RandomSchema(std::uint32_t seed) : random(seed) {
    root = schema(3);
    Json leaf;
    do leaf = schema(1);
    while (leaf.dump().find("#/$defs/leaf") != std::string::npos);  // which may be left recursion
    const Json tree = {{"type", "array"}, {"items", {{"$ref", "#/$defs/tree"}}}, {"maxItems", 3}};
    root["$defs"] = {{"leaf", leaf}, {"tree", tree}};
  }
  Json schema(int depth) {
    const auto below = [&](unsigned n) { return random() % n; };
    switch (below(depth > 0 ? 13 : 7)) {
      case 0: {
        const char* kPatterns[] = {"^[a-z]{1,3}$", "a|b",           "^(x|yz)+\\d?$", "^\\w+@\\w+\\.com$",
                                   "\\s",          "^[^a-z\"]{2}$", "^$|^a.c$"};
        return {{"type", "string"}, {"pattern", kPatterns[below(7)]}};
      }
      case 1: {
        Json made = {{"type", "string"}};
        if (below(2)) made["minLength"] = below(4);
        if (below(2)) made["maxLength"] = 3 + below(40);
        return made;
      }
      case 2: {
        Json made = {{"type", below(2) ? "integer" : "number"}};
        if (below(2)) made[below(2) ? "minimum" : "exclusiveMinimum"] = static_cast<int>(below(100)) - 50;
        if (below(2)) made[below(2) ? "maximum" : "exclusiveMaximum"] = static_cast<int>(below(100)) + 52.25;
        return made;
      }
      case 3:
        return {{"type", Json::array({"boolean", "null", "integer"})}};
      case 4:
        return {{"enum", Json::array({"red", 7, nullptr, Json::array({1, "x"}), "gr\u00fcn", 2.5})}};
      case 5:
        return {{"const", below(2) ? Json("fixed \"text\"\n") : Json(Json{{"k", 1}})}};
      case 6:
        return {{"$ref", below(2) ? "#/$defs/leaf" : "#/$defs/tree"}};
      case 7:
      case 8: {
        Json made = {{"type", "array"}};
        if (below(2)) made["prefixItems"] = Json::array({schema(depth - 1), schema(depth - 1)});
        if (below(3)) made["items"] = schema(depth - 1);
        if (below(2)) made["minItems"] = below(4);
        if (below(2)) made["maxItems"] = 4 + below(3);
        return made;
      }
      case 9:
        return {{"anyOf", Json::array({schema(depth - 1), schema(depth - 1), schema(depth - 1)})}};
      case 10:
        return {{"allOf", Json::array({object(depth - 1, "a"), object(depth - 1, "z")})}};
      default:
        return object(depth, "");
    }
  }
  Json object(int depth, const std::string& prefix) {
    Json made = {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}};
    for (auto left = random() % 5; left > 0; --left) {
      const char* kNames[] = {"name", "na", "value", "items", "\u00e9t\u00e9", "with \"quotes\"", "a/b~c"};
      const std::string name = prefix + kNames[random() % 7];
      made["properties"][name] = schema(depth - 1);
      if (random() % 2) made["required"].push_back(name);
    }
    // Validators count a name twice, "required" does not.
    std::set<std::string> unique(made["required"].begin(), made["required"].end());
    made["required"] = unique;
    if (prefix.empty() && random() % 2)
      made["additionalProperties"] = random() % 2 ? Json(false) : schema(depth - 1);
    return made;
  }
  std::mt19937 random;
  Json root;
};

TEST(JsonSchema, RandomWalksAreValidForRandomSchemas) {
  const char* path = std::getenv("REDLINE_WALKS");  // JSON lines for another validator to look at
  std::ofstream walks;
  if (path) walks.open(path);
  int num_texts = 0;
  for (unsigned seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomSchema made(seed);
    std::shared_ptr<Constraint> constraint;
    try {
      constraint = compiled(made.root);
    } catch (const GrammarError& error) {
      ADD_FAILURE() << error.what() << "\n" << made.root;
      continue;
    }
    for (int round = 0; round < 4; ++round) {
      const std::string text = random_text(constraint, made.random);
      const Json value = Json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text << "\n" << made.root;
      ASSERT_TRUE(valid(made.root, made.root, value)) << text << "\n" << made.root;
      if (path) walks << Json{{"schema", made.root}, {"text", text}} << "\n";
      ++num_texts;
    }
  }
  EXPECT_GT(num_texts, 500);
}

TEST(JsonSchema, AnyObjectIsParsedJson) {
  std::mt19937 random(3);
  const auto constraint = compiled(json_object_grammar());
  for (int round = 0; round < 200; ++round) {
    const std::string text = random_text(constraint, random);
    ASSERT_TRUE(Json::parse(text, nullptr, false).is_object()) << text;
  }
}

TEST(JsonSchema, LongStringsAreCountedExactly) {
  const std::pair<std::uint32_t, std::uint32_t> kLimits[] = {
      {0, 47}, {0, 48}, {3, 130}, {48, 48}, {50, 200}, {100, 144}, {96, 500}, {60, Grammar::kUnbounded}};
  for (const auto& [min, max] : kLimits) {
    Json schema = {{"type", "string"}, {"minLength", min}};
    if (max != Grammar::kUnbounded) schema["maxLength"] = max;
    const auto constraint = compiled(schema);
    for (std::uint32_t length = 0; length < 520; ++length) {
      std::string text = "\"";
      for (std::uint32_t i = 0; i < length; ++i) text += i % 5 == 0 ? "\\n" : i % 5 == 1 ? "\u4f60" : "x";
      ASSERT_EQ(takes(constraint, text + "\""), length >= min && length <= max) << length << " in " << schema;
    }
  }
  EXPECT_EQ(refusal({{"type", "string"}, {"minLength", 3}, {"maxLength", 2}}),
            "no text satisfies the grammar");
}

TEST(JsonSchema, WhiteSpaceIsBounded) {
  const auto constraint = compiled(json_object_grammar());
  EXPECT_TRUE(takes(constraint, "{\n\n" + std::string(20, ' ') + "}"));
  EXPECT_FALSE(takes(constraint, "{\n\n" + std::string(21, ' ') + "}"));
  EXPECT_FALSE(takes(constraint, "{  }"));
}

TEST(JsonSchema, BombsEndInARefusal) {
  Json deep = true;
  for (int i = 0; i < 120; ++i) deep = {{"type", "array"}, {"items", deep}};
  EXPECT_NE(refusal(deep).find("nest deeper than 100"), std::string::npos);
  EXPECT_NE(refusal({{"type", "string"},
                     {"pattern", "((((a{0,999}){0,999}){0,999}){0,999}){0,999}|" + std::string(1000, '(')}})
                .find("groups nest"),
            std::string::npos);
  // Each level doubles the one below: 2^40 schemas.
  Json doubled = {{"$defs", {{"l0", {{"type", "null"}}}}}, {"$ref", "#/$defs/l40"}};
  for (int i = 1; i <= 40; ++i) {
    const Json below = {{"$ref", "#/$defs/l" + std::to_string(i - 1)}};
    doubled["$defs"]["l" + std::to_string(i)] = {
        {"allOf", Json::array({{{"prefixItems", Json::array({below, below})}}, {{"type", "array"}}})}};
  }
  EXPECT_TRUE(takes(compiled(Json{{"enum", std::vector<int>(3000, 7)}}), "7"));
  const std::string message = refusal(doubled);  // shared by reference: small
  EXPECT_LT(message.size(), 300u);
  Json many = {{"enum", Json::array()}};
  for (int i = 0; i < 30000; ++i) many["enum"].push_back("value number " + std::to_string(i));
  EXPECT_NE(refusal(many).find("too large"), std::string::npos);
}

TEST(ToolGrammar, CallsAreWrittenInTheFormAskedFor) {
  const Json tools = Json::parse(
      R"j([{"type":"function","function":{"name":"add","parameters":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}},
                                     {"type":"function","function":{"name":"now"}}])j");
  const auto special = [](std::string_view text) -> std::size_t {
    return text.starts_with("<tool_call>") ? 11 : 0;
  };
  const auto grammar_of = [&](const char* form) {
    return compiled(tool_call_grammar(tools, *tool_call_layout(form), special, soon()));
  };
  const auto hermes = grammar_of("hermes");
  EXPECT_TRUE(takes(hermes, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>"));
  EXPECT_TRUE(takes(hermes,
                    "<tool_call>\n{\"name\": \"now\", \"arguments\": "
                    "{}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"));
  EXPECT_FALSE(takes(hermes, "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>"));
  EXPECT_FALSE(takes(hermes, "Sure! <tool_call>"));
  EXPECT_TRUE(takes(grammar_of("llama3"), "{\"name\": \"add\", \"parameters\": {\"a\": 1}}"));
  EXPECT_TRUE(takes(grammar_of("mistral"), "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]"));
  EXPECT_FALSE(takes(grammar_of("mistral"), "[TOOL_CALLS][]"));
  EXPECT_FALSE(tool_call_layout("pythonic"));
}

}  // namespace
}  // namespace redline
