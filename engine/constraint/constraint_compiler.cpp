#include "engine/constraint/constraint_compiler.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/constraint/gbnf.h"
#include "engine/constraint/json_schema.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& schema) {
  std::string text = schema.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > ConstraintCompiler::kMaxSchemaBytes)
    throw GrammarError("the schema has " + std::to_string(text.size()) + " bytes, the most are " +
                       std::to_string(ConstraintCompiler::kMaxSchemaBytes));
  return text;
}

}  // namespace

std::shared_ptr<const ConstraintVocabulary> ConstraintCompiler::vocabulary() {
  const std::lock_guard lock(mutex_);
  if (!vocabulary_) vocabulary_ = std::make_shared<ConstraintVocabulary>(tokenizer_);
  return vocabulary_;
}

std::shared_ptr<Constraint> ConstraintCompiler::compiled(const std::string& key,
                                                         const std::function<Grammar(Deadline)>& make) {
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find(kept_, key, [](const auto& entry) -> const std::string& { return entry.first; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      return found->second;
    }
  }
  const auto of = vocabulary();
  const Deadline deadline = std::chrono::steady_clock::now() + kTimeLimit;
  auto constraint = std::make_shared<Constraint>(make(deadline), of, deadline);
  const std::lock_guard lock(mutex_);
  kept_.emplace_front(key, constraint);
  if (kept_.size() > kMostKept) kept_.pop_back();
  return constraint;
}

std::shared_ptr<Constraint> ConstraintCompiler::json_schema(const Json& schema) {
  return compiled("schema " + text_of(schema),
                  [&](Deadline deadline) { return json_schema_grammar(schema, deadline); });
}
std::shared_ptr<Constraint> ConstraintCompiler::json_object() {
  return compiled("object", [](Deadline) { return json_object_grammar(); });
}
std::shared_ptr<Constraint> ConstraintCompiler::gbnf(const std::string& grammar) {
  return compiled("gbnf " + grammar, [&](Deadline) { return parse_gbnf(grammar); });
}
std::shared_ptr<Constraint> ConstraintCompiler::regex(const std::string& pattern) {
  return compiled("regex " + pattern, [&](Deadline) { return regex_grammar(pattern); });
}
std::shared_ptr<Constraint> ConstraintCompiler::choice(const std::vector<std::string>& texts) {
  return compiled("choice " + text_of(texts), [&](Deadline) { return choice_grammar(texts); });
}

std::shared_ptr<Constraint> ConstraintCompiler::tool_calls(const Json& tools, const ToolCallLayout& form) {
  const Json key = {tools,         form.begin,         form.end,      form.separator,
                    form.name_key, form.arguments_key, form.in_array, form.max_calls};
  const auto of = vocabulary();
  return compiled("tools " + text_of(key), [&](Deadline deadline) {
    return tool_call_grammar(
        tools, form, [&](std::string_view text) { return of->special_prefix(text); }, deadline);
  });
}

}  // namespace redline
