// A model's tool calls as a grammar, for calls that a client requires.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "engine/constraint/grammar.h"

namespace redline {

/// How a model writes calls: `begin` {"NAME_KEY": "...", "ARGUMENTS_KEY": {...}} `end`, or with `in_array`
/// one array of such objects between them. Special tokens in `begin`, `separator` and `end` are taken as
/// such.
struct ToolCallLayout {
  std::string begin = {}, end = {};
  std::string separator = "\n";  // between calls, where they are no array
  std::string name_key = "name", arguments_key = "arguments";
  bool in_array = false;
  std::uint32_t max_calls = 16;  // at least one is written; 1: not in parallel
};

/// How forms of engine/chat_output/chat_form.h are written that are JSON, by name; nothing for others.
std::optional<ToolCallLayout> tool_call_layout(std::string_view form);

/// Calls of `tools` (an array of OpenAI's {"type": "function", "function": {"name", "parameters"}}), each
/// with arguments that its parameters' schema accepts. `special(text)`: the length of the longest special
/// token's name that `text` begins with, or 0. Throws GrammarError naming the tool.
Grammar tool_call_grammar(const nlohmann::ordered_json& tools, const ToolCallLayout& form,
                          const std::function<std::size_t(std::string_view)>& special,
                          std::chrono::steady_clock::time_point deadline);

}  // namespace redline
