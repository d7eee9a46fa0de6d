#include "server/chat_messages.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace redline::server {
namespace {

[[noreturn]] void refuse_messages(const std::string& why, const char* code) {
  throw ApiError(400, "messages: " + why, "messages", code);
}

// The text of content that is given in parts.
std::string joined_text(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    const std::string type = part.is_object() ? part.value("type", Json()).dump() : "";
    if (type == "\"text\"" && part.contains("text") && part["text"].is_string())
      text += part["text"].get_ref<const std::string&>();
    else if (type.empty() || type == "null" || type == "\"text\"")
      refuse_messages("content parts are objects with a type, and text for \"text\"", "invalid_value");
    else
      refuse_messages("content of type " + type + " is not served, only text", "unsupported_content");
  }
  return text;
}

Json read_content(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) return "";
  if (content->is_string()) return *content;
  if (!content->is_array()) refuse_messages("content is a string or an array of parts", "invalid_value");
  return joined_text(*content);
}

// Templates write a call's arguments as JSON: a string would come out quoted.
void decode_arguments(Json& calls) {
  if (!calls.is_array()) refuse_messages("tool_calls is an array", "invalid_value");
  for (Json& call : calls) {
    const bool named = call.is_object() && call.contains("function") && call["function"].is_object() &&
                       call["function"].contains("name") && call["function"]["name"].is_string();
    if (!named) refuse_messages("tool_calls are objects with a function and its name", "invalid_value");
    Json& function = call["function"];
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_string()) continue;
    Json decoded = Json::parse(arguments->get_ref<const std::string&>(), nullptr, false);
    if (decoded.is_object()) *arguments = std::move(decoded);
  }
}

bool is_tool_name(const Json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= 128 && std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  });
}

void read_choice(const Fields& fields, ToolUse& use) {
  use.may_call = !use.names.empty();
  const Json* choice = fields.find("tool_choice");
  if (!choice || *choice == "auto") return;
  if (*choice == "none") {
    use.may_call = false;
    return;
  }
  const bool named = choice->is_object() && choice->contains("function") &&
                     (*choice)["function"].is_object() &&
                     is_tool_name((*choice)["function"].value("name", Json()));
  if (!named && *choice != "required")
    fields.fail("tool_choice", "\"auto\", \"none\", \"required\" or {type, function: {name}}");
  if (use.names.empty()) fields.fail("tool_choice", "\"none\" or \"auto\" where there are no tools");
  use.must_call = true;
  use.callable = use.tools;
  if (!named) return;
  const Json& name = (*choice)["function"]["name"];
  use.callable = Json::array();
  for (const Json& tool : use.tools)
    if (tool["function"]["name"] == name) use.callable.push_back(tool);
  if (use.callable.empty()) fields.fail("tool_choice", "the name of one of the tools");
  use.one_call = true;
}

}  // namespace

Json read_messages(const Fields& fields) {
  const Json* given = fields.find("messages");
  if (!given || !given->is_array() || given->empty()) fields.fail("messages", "an array of messages");
  Json messages = *given;
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      fields.fail("messages", "objects with a role");
    message["content"] = read_content(message);
    if (const auto calls = message.find("tool_calls"); calls != message.end() && calls->is_null())
      message.erase(calls);
    else if (calls != message.end())
      decode_arguments(*calls);
  }
  return messages;
}

ToolUse read_tools(const Fields& fields) {
  ToolUse use;
  constexpr const char* kExpected = "an array of {type: \"function\", function: {name, ...}}";
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array() || tools->size() > 1024) fields.fail("tools", kExpected);
    for (const Json& tool : *tools) {
      if (!tool.is_object() || tool.value("type", Json("function")) != "function" ||
          !tool.contains("function") || !tool["function"].is_object() ||
          !is_tool_name(tool["function"].value("name", Json())))
        fields.fail("tools", kExpected);
      use.names.push_back(tool["function"]["name"].get<std::string>());
    }
    if (!use.names.empty()) use.tools = *tools;
  }
  use.one_call = !fields.boolean("parallel_tool_calls").value_or(true);
  read_choice(fields, use);
  if (!use.may_call) use.tools = nullptr;
  return use;
}

void place_tools(const ToolUse& use, const std::string& chat_template, Json& messages, Json& variables) {
  if (use.tools.is_null()) return;
  const auto mentions = [&](const char* text) { return chat_template.find(text) != std::string::npos; };
  if (mentions("message['tools']")) {
    if (messages.front()["role"] != "system")
      messages.insert(messages.begin(), Json{{"role", "system"}, {"content", ""}});
    messages.front()["tools"] = use.tools.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  if (mentions("xml_tools") && !variables.contains("xml_tools") && !variables.contains("python_tools"))
    variables["xml_tools"] = use.tools;
}

}  // namespace redline::server
