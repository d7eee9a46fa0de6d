// Conversations and tools as clients send them, checked, and as chat templates take them.
#pragma once

#include <string>
#include <vector>

#include "server/fields.h"

namespace redline::server {

/// `messages`: content parts of text joined, arguments of tool calls as objects, no content as "". Throws
/// ApiError 400 naming `messages` for what is none, and for images, sound and files.
Json read_messages(const Fields& fields);

struct ToolUse {
  Json tools;                      // what the template is told of; null: nothing
  std::vector<std::string> names;  // of the tools
  bool may_call = false;
  bool must_call = false;  // tool_choice says so
  Json callable;           // which of the tools, then
  bool one_call = false;
};
/// `tools`, `tool_choice` and `parallel_tool_calls`. Throws ApiError 400 naming the field.
ToolUse read_tools(const Fields& fields);

/// Where `chat_template` looks for tools elsewhere than in the variable of that name, puts them there: in the
/// system message (Phi-4), in a variable (SmolLM3).
void place_tools(const ToolUse& use, const std::string& chat_template, Json& messages, Json& variables);

}  // namespace redline::server
