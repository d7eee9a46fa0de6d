#include "server/answer_constraint.h"

#include <algorithm>
#include <optional>
#include <string>

namespace redline::server {
namespace {

/// The one constraint that a client may give.
struct Asked {
  enum class Kind { kSchema, kObject, kGrammar, kRegex, kChoice };
  Kind kind;
  const Json* value;  // of kObject: unused
  std::string field;  // that errors name
};

Asked read_response_format(const Fields& fields, const Json& format) {
  const Fields inner(format);
  const std::string type = inner.text("type").value_or("");
  const std::string field = "response_format";
  if (type == "json_object") {
    const Json* schema = inner.find("schema");  // llama.cpp's
    return {schema ? Asked::Kind::kSchema : Asked::Kind::kObject, schema, field};
  }
  if (type != "json_schema")
    fields.fail(field.c_str(), "an object whose type is text, json_object or json_schema");
  const Json* described = inner.find("json_schema");
  if (!described || !described->is_object() || !described->contains("schema"))
    throw ApiError(400, "response_format: expected json_schema with a schema", field, "invalid_value");
  return {Asked::Kind::kSchema, &(*described)["schema"], field};
}

std::optional<Asked> read_asked(const Fields& fields) {
  std::optional<Asked> asked;
  const auto add = [&](const Asked& more) {
    if (asked)
      throw ApiError(400, more.field + ": " + asked->field + " is there too; one constraint at most",
                     more.field, "invalid_value");
    asked = more;
  };
  if (const Json* format = fields.find("response_format")) {
    if (!format->is_object())
      fields.fail("response_format", "an object whose type is text, json_object or json_schema");
    if (Fields(*format).text("type") != "text") add(read_response_format(fields, *format));
  }
  using enum Asked::Kind;
  const auto add_field = [&](const Fields& from, const char* key, Asked::Kind kind, const std::string& name) {
    if (const Json* value = from.find(key)) add({kind, value, name});
  };
  add_field(fields, "grammar", kGrammar, "grammar");
  for (const auto& [key, kind] : {std::pair("json", kSchema), std::pair("regex", kRegex),
                                  std::pair("choice", kChoice), std::pair("grammar", kGrammar)})
    add_field(fields, ("guided_" + std::string(key)).c_str(), kind, "guided_" + std::string(key));
  if (const Json* structured = fields.find("structured_outputs")) {
    if (!structured->is_object()) fields.fail("structured_outputs", "an object");
    const Fields inner(*structured);
    for (const auto& [key, kind] : {std::pair("json", kSchema), std::pair("regex", kRegex),
                                    std::pair("choice", kChoice), std::pair("grammar", kGrammar)})
      add_field(inner, key, kind, "structured_outputs");
    if (inner.boolean("json_object").value_or(false)) add({kObject, nullptr, "structured_outputs"});
  }
  return asked;
}

std::string text_of(const Asked& asked) {
  if (!asked.value->is_string())
    throw ApiError(400, asked.field + ": expected a string", asked.field, "invalid_value");
  return asked.value->get<std::string>();
}

// A schema, or the text of one.
Json schema_of(const Asked& asked) {
  Json schema = *asked.value;
  if (schema.is_string()) schema = parse_body(schema.get<std::string>());
  if (!schema.is_object() && !schema.is_boolean())
    throw ApiError(400, asked.field + ": expected a JSON schema", asked.field, "invalid_value");
  return schema;
}

std::vector<std::string> choices_of(const Asked& asked) {
  std::vector<std::string> texts;
  if (asked.value->is_array())
    for (const Json& text : *asked.value)
      if (text.is_string()) texts.push_back(text.get<std::string>());
  if (texts.empty() || texts.size() != asked.value->size())
    throw ApiError(400, asked.field + ": expected an array of strings", asked.field, "invalid_value");
  return texts;
}

}  // namespace

bool may_bring_constraint(const Json& call) {
  constexpr const char* kFields[] = {"response_format",    "grammar",       "guided_json",
                                     "guided_regex",       "guided_choice", "guided_grammar",
                                     "structured_outputs", "tool_choice"};
  return std::ranges::any_of(kFields, [&](const char* field) { return call.contains(field); });
}

std::shared_ptr<Constraint> read_constraint(const Fields& fields, ConstraintCompiler* compiler) {
  const std::optional<Asked> asked = read_asked(fields);
  if (!asked) return nullptr;
  if (!compiler)
    throw ApiError(400, asked->field + ": the model has no tokenizer", asked->field, "no_tokenizer");
  try {
    switch (asked->kind) {
      case Asked::Kind::kSchema:
        return compiler->json_schema(schema_of(*asked));
      case Asked::Kind::kObject:
        return compiler->json_object();
      case Asked::Kind::kGrammar:
        return compiler->gbnf(text_of(*asked));
      case Asked::Kind::kRegex:
        return compiler->regex(text_of(*asked));
      case Asked::Kind::kChoice:
        return compiler->choice(choices_of(*asked));
    }
  } catch (const GrammarError& error) {
    const bool schema = asked->kind == Asked::Kind::kSchema;
    throw ApiError(400, asked->field + ": " + error.what(), asked->field,
                   schema ? "invalid_schema" : "invalid_grammar");
  }
  return nullptr;
}

}  // namespace redline::server
