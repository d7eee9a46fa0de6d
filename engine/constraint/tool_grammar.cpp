#include "engine/constraint/tool_grammar.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/constraint/json_grammar.h"
#include "engine/constraint/json_schema.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
using Expression = Grammar::Expression;

Expression text_expression(Grammar& grammar, std::string_view text,
                           const std::function<std::size_t(std::string_view)>& special) {
  std::vector<Expression> parts;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = special(text.substr(at));
    if (length == 0) {
      ++at;
      continue;
    }
    parts.push_back(grammar.bytes(text.substr(begin, at - begin)));
    parts.push_back(grammar.token(text.substr(at, length)));
    begin = at += length;
  }
  parts.push_back(grammar.bytes(text.substr(begin)));
  return grammar.sequence(std::move(parts));
}

Expression call_expression(JsonGrammar& json, const Json& tool, const ToolCallLayout& form,
                           std::chrono::steady_clock::time_point deadline) {
  Grammar& grammar = json.grammar();
  const Json& function = tool.contains("function") ? tool["function"] : tool;
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
    throw GrammarError("a tool has no name");
  const Json& name = function["name"];
  const bool has_schema = function.contains("parameters") && function["parameters"].is_object() &&
                          !function["parameters"].empty();
  const auto arguments = [&] {
    try {
      return has_schema ? json_schema_expression(json, function["parameters"], deadline) : json.object();
    } catch (const GrammarError& error) {
      throw GrammarError("the tool " + name.get<std::string>().substr(0, 64) + ": " + error.what());
    }
  };
  const auto key = [&](const std::string& text) { return grammar.bytes(Json(text).dump()); };
  return json.list('{', '}',
                   {json.member(key(form.name_key), grammar.bytes(name.dump())),
                    json.member(key(form.arguments_key), arguments())},
                   std::nullopt, 0, 0);
}

}  // namespace

std::optional<ToolCallLayout> tool_call_layout(std::string_view form) {
  static const std::pair<std::string_view, ToolCallLayout> kLayouts[] = {
      {"json", {}},
      {"hermes", {.begin = "<tool_call>\n", .end = "\n</tool_call>"}},
      {"smollm3", {.begin = "<tool_call>\n", .end = "\n</tool_call>"}},
      {"llama3", {.separator = "; ", .arguments_key = "parameters"}},
      {"mistral", {.begin = "[TOOL_CALLS]", .in_array = true}},
      {"granite", {.begin = "<|tool_call|>", .in_array = true}},
      {"phi4", {.begin = "<|tool_call|>", .end = "<|/tool_call|>", .in_array = true}},
  };
  for (const auto& [name, layout] : kLayouts)
    if (name == form) return layout;
  return std::nullopt;
}

Grammar tool_call_grammar(const Json& tools, const ToolCallLayout& form,
                          const std::function<std::size_t(std::string_view)>& special,
                          std::chrono::steady_clock::time_point deadline) {
  if (!tools.is_array() || tools.empty()) throw GrammarError("there are no tools to call");
  Grammar grammar;
  const Grammar::Rule root = grammar.add_rule("root"), call = grammar.add_rule("call");
  JsonGrammar json(grammar);
  std::vector<Expression> calls;
  for (const Json& tool : tools) calls.push_back(call_expression(json, tool, form, deadline));
  grammar.define(call, grammar.choice(std::move(calls)));
  const auto text = [&](const std::string& spelled) { return text_expression(grammar, spelled, special); };
  if (form.in_array) {
    grammar.define(root, grammar.sequence({text(form.begin),
                                           json.list('[', ']', {}, grammar.call(call), 1, form.max_calls),
                                           text(form.end)}));
  } else {
    const auto one = [&] { return grammar.sequence({text(form.begin), grammar.call(call), text(form.end)}); };
    const Expression more =
        grammar.repeat(grammar.sequence({text(form.separator), one()}), 0, form.max_calls - 1);
    grammar.define(root, grammar.sequence({one(), more}));
  }
  return grammar;
}

}  // namespace redline
