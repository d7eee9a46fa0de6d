#include "engine/chat_template/chat_template.h"

#include <nlohmann/json.hpp>

#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/parser.h"

namespace redline {

struct ChatTemplate::Program {
  jinja::Block body;
};

ChatTemplate::ChatTemplate(std::string_view source)
    : program_(std::make_unique<const Program>(Program{jinja::parse(source)})) {}

ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const nlohmann::ordered_json& variables, const Limits& limits) const {
  jinja::Interpreter interpreter({limits.max_steps, limits.max_bytes, limits.max_depth}, limits.now);
  try {
    jinja::Named names;
    for (const auto& [name, value] : variables.items())
      names.emplace_back(name, jinja::Value::from_json(value));
    return interpreter.run(program_->body, std::move(names));
  } catch (const jinja::Failure& failure) {
    throw TemplateError(interpreter.line(), failure.message);
  } catch (const std::runtime_error& error) {  // a regular expression beyond its limits
    throw TemplateError(interpreter.line(), error.what());
  }
}

std::string ChatTemplate::render(const nlohmann::ordered_json& variables) const {
  return render(variables, Limits());
}

nlohmann::ordered_json chat_variables(const nlohmann::ordered_json& messages,
                                      const nlohmann::ordered_json& tools,
                                      const std::vector<std::pair<std::string, std::string>>& special_tokens,
                                      bool add_generation_prompt, const nlohmann::ordered_json& more) {
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  for (const auto& [name, text] : special_tokens) variables[name] = text;
  variables["messages"] = messages;
  variables["tools"] = tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = add_generation_prompt;
  if (more.is_object()) variables.update(more);
  return variables;
}

}  // namespace redline
