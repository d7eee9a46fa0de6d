// How models mark what they think and which tools they call: a row for each form.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "engine/chat_output/call_reader.h"

namespace redline {

/// What begins tool calls.
struct CallOpener {
  std::string_view marker;
  CallSyntax syntax = CallSyntax::kJson;
  /// The marker is the calls' own first character, counts only where an answer begins, and only calls of
  /// tools that the request has are meant.
  bool bare = false;
};

struct ToolCallForm {
  std::string_view name;
  std::vector<CallOpener> openers;
  std::vector<std::string_view> closers;  // dropped right after calls
  std::vector<std::string_view> inner;    // markers within calls

  /// All that are not single characters.
  std::vector<std::string_view> markers() const;
};

struct ReasoningForm {
  std::string_view name, open, close;
};

/// All forms, "none" not among them.
std::span<const ToolCallForm> tool_call_forms();
std::span<const ReasoningForm> reasoning_forms();

/// The form of this name, or, for "auto", that which the text of a chat template shows. Null for "none" and
/// where a template shows none. Throws std::invalid_argument naming the forms there are for another name.
const ToolCallForm* find_tool_call_form(std::string_view name, std::string_view chat_template);
const ReasoningForm* find_reasoning_form(std::string_view name, std::string_view chat_template);

}  // namespace redline
