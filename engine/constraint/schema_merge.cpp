#include "engine/constraint/schema_merge.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace redline {
namespace {

constexpr int kMaxReferences = 64;  // followed from one to the next

bool contains(const SchemaJson& array, const SchemaJson& value) {
  return std::find(array.begin(), array.end(), value) != array.end();
}

SchemaJson as_array(const SchemaJson& value) { return value.is_array() ? value : SchemaJson::array({value}); }

SchemaJson common_types(const SchemaJson& a, const SchemaJson& b) {
  SchemaJson types = SchemaJson::array();
  const SchemaJson first = as_array(a), second = as_array(b);
  for (const SchemaJson& type : first) {
    if (contains(second, type) || (type == "integer" && contains(second, "number"))) types.push_back(type);
    if (type == "number" && !contains(second, "number") && contains(second, "integer"))
      types.push_back("integer");
  }
  return types;
}

SchemaJson both(const SchemaJson& a, const SchemaJson& b) {
  return a == b ? a : SchemaJson{{"allOf", SchemaJson::array({a, b})}};
}

class Merger {
 public:
  Merger(const SchemaJson& root, const std::string& place) : root_(root), place_(place) {}

  SchemaJson merge(SchemaJson a, SchemaJson b) {
    a = flat(std::move(a)), b = flat(std::move(b));
    if (a.is_boolean()) return a.get<bool>() ? b : a;
    if (b.is_boolean()) return b.get<bool>() ? a : b;
    SchemaJson result = a;
    merge_properties(result, a, b);
    for (const auto& [key, value] : b.items()) {
      if (key == "properties" || key == "additionalProperties" || is_annotation(key)) continue;
      if (!result.contains(key))
        result[key] = value;
      else if (result[key] != value)
        result[key] = merge_keyword(key, result[key], value);
    }
    return result;
  }

 private:
  SchemaJson flat(SchemaJson schema) {
    if (++num_references_ > kMaxReferences) fail_at(place_, "$ref and allOf lead on too often");
    if (schema.is_boolean()) return schema;
    if (!schema.is_object()) fail_at(place_, "a schema is an object or a boolean");
    if (const auto reference = schema.find("$ref"); reference != schema.end()) {
      if (!reference->is_string()) fail_at(place_ + "/$ref", "expected a string");
      SchemaJson target = referred(root_, reference->get<std::string>(), place_ + "/$ref");
      schema.erase("$ref");
      return merge(std::move(target), std::move(schema));
    }
    if (const auto all = schema.find("allOf"); all != schema.end()) {
      const SchemaJson parts = *all;
      if (!parts.is_array()) fail_at(place_ + "/allOf", "expected an array");
      schema.erase("allOf");
      for (const SchemaJson& part : parts) schema = merge(std::move(schema), part);
    }
    return schema;
  }

  // What one side names and the other does not is additional there.
  static void merge_properties(SchemaJson& result, const SchemaJson& a, const SchemaJson& b) {
    const auto properties_of = [](const SchemaJson& schema) {
      return schema.contains("properties") && schema["properties"].is_object() ? schema["properties"]
                                                                               : SchemaJson::object();
    };
    const SchemaJson first = properties_of(a), second = properties_of(b);
    const auto with_additional = [](const SchemaJson& property, const SchemaJson& other) {
      const auto additional = other.find("additionalProperties");
      return additional == other.end() || *additional == true ? property : both(property, *additional);
    };
    SchemaJson properties = SchemaJson::object();
    for (const auto& [name, property] : first.items())
      properties[name] = second.contains(name) ? both(property, second[name]) : with_additional(property, b);
    for (const auto& [name, property] : second.items())
      if (!first.contains(name)) properties[name] = with_additional(property, a);
    if (!properties.empty()) result["properties"] = std::move(properties);
    if (!b.contains("additionalProperties")) return;
    result["additionalProperties"] = a.contains("additionalProperties")
                                         ? both(a["additionalProperties"], b["additionalProperties"])
                                         : b["additionalProperties"];
  }

  SchemaJson merge_keyword(const std::string& key, const SchemaJson& a, const SchemaJson& b) const {
    const bool numbers = a.is_number() && b.is_number(), arrays = a.is_array() && b.is_array();
    if (numbers && (key.starts_with("min") || key == "exclusiveMinimum")) return std::max(a, b);
    if (numbers && (key.starts_with("max") || key == "exclusiveMaximum")) return std::min(a, b);
    if (key == "type") return common_types(a, b);
    if (key == "items") return both(a, b);
    if (key == "required" && arrays) {
      SchemaJson names = a;
      for (const SchemaJson& name : b)
        if (!contains(names, name)) names.push_back(name);
      return names;
    }
    if (key == "enum" && arrays) {
      SchemaJson values = SchemaJson::array();
      for (const SchemaJson& value : a)
        if (contains(b, value)) values.push_back(value);
      return values;
    }
    if (key == "prefixItems" && arrays && a.size() == b.size()) {
      SchemaJson items = SchemaJson::array();
      for (std::size_t i = 0; i < a.size(); ++i) items.push_back(both(a[i], b[i]));
      return items;
    }
    fail_at(place_, "two different values of " + key + " at once are not supported");
  }

  const SchemaJson& root_;
  const std::string& place_;
  int num_references_ = 0;
};

}  // namespace

void fail_at(const std::string& place, const std::string& what) {
  const std::string shown = place.size() <= 200 ? place : place.substr(0, 200) + "...";
  throw GrammarError((shown.empty() ? std::string("the schema") : shown) + ": " + what);
}

bool is_annotation(const std::string& keyword) {
  static constexpr std::string_view kAnnotations[] = {
      "title",        "description", "default",     "examples",         "example",         "$schema",
      "$id",          "$comment",    "$defs",       "definitions",      "deprecated",      "readOnly",
      "writeOnly",    "$anchor",     "$vocabulary", "contentMediaType", "contentEncoding", "discriminator",
      "externalDocs", "xml"};
  return std::ranges::find(kAnnotations, keyword) != std::end(kAnnotations) || keyword.starts_with("x-");
}

const SchemaJson& referred(const SchemaJson& root, const std::string& reference, const std::string& place) {
  if (reference.empty() || reference[0] != '#' || (reference.size() > 1 && reference[1] != '/'))
    fail_at(place, "only references into the schema itself (#, #/...) are supported");
  std::string pointer;
  for (std::size_t i = 1; i < reference.size(); ++i) {
    const auto hex = [](char c) {
      return std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
    };
    if (reference[i] == '%' && i + 2 < reference.size() && hex(reference[i + 1]) < 16 &&
        hex(reference[i + 2]) < 16) {
      pointer += static_cast<char>(hex(reference[i + 1]) * 16 + hex(reference[i + 2]));
      i += 2;
    } else {
      pointer += reference[i];
    }
  }
  try {
    return root.at(SchemaJson::json_pointer(pointer));
  } catch (const SchemaJson::exception&) {
    fail_at(place, "there is no " + reference.substr(0, 100));
  }
}

SchemaJson merged_schema(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b,
                         const std::string& place) {
  return Merger(root, place).merge(a, b);
}

}  // namespace redline
