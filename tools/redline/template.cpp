// redline template: a conversation as the model's chat template renders it; no weights are loaded.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/chat_prompt.h"
#include "engine/checkpoint.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct TemplateFlags {
  std::string model, messages, tools, source, vars;
  bool no_generation_prompt = false;
};

/// A JSON file, or null where none is named. Throws std::runtime_error naming it and the byte.
Json read_json(const std::string& path, Json::value_t expected) {
  if (path.empty()) return nullptr;
  const auto check_depth = [&path](int depth, Json::parse_event_t, const Json&) {
    constexpr int kMaxDepth = 128;
    if (depth > kMaxDepth)
      throw std::runtime_error(path + ": nests more than " + std::to_string(kMaxDepth) + " deep");
    return true;
  };
  try {
    const Json json = Json::parse(read_file(path), check_depth);
    if (json.type() != expected)
      throw std::runtime_error(path + ": expected " + Json(expected).type_name() + ", found " +
                               json.type_name());
    return json;
  } catch (const Json::parse_error& error) {
    throw std::runtime_error(path + ": not JSON: " + error.what());
  } catch (const Json::out_of_range& error) {
    throw std::runtime_error(path + ": a number that is too large: " + error.what());
  }
}

int render(const TemplateFlags& flags) {
  if (flags.messages.empty()) throw UsageError("--messages is required");
  const Tokenizer tokenizer(Checkpoint(flags.model).tokenizer_spec());
  const ChatPrompt prompt = flags.source.empty()
                                ? ChatPrompt(tokenizer)
                                : ChatPrompt(tokenizer, flags.source, read_file(flags.source));
  const std::string text = prompt.render(
      read_json(flags.messages, Json::value_t::array), read_json(flags.tools, Json::value_t::array),
      !flags.no_generation_prompt, read_json(flags.vars, Json::value_t::object));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return kExitDone;
}

}  // namespace

Action declare_template(Flags& flags) {
  const auto values = std::make_shared<TemplateFlags>();
  add_model_argument(flags, values->model);
  flags.text("--messages", "FILE", "The conversation: a JSON array of {role, content, ...}",
             values->messages);
  flags.text("--tools", "FILE", "A JSON array of tool descriptions", values->tools);
  flags.text("--template", "FILE", "Use this Jinja template instead of the model's", values->source);
  flags.text("--vars", "FILE", "A JSON object of variables that go before all others", values->vars);
  flags.flag("--no-generation-prompt", "Do not open the assistant's turn", values->no_generation_prompt);
  return [values] { return render(*values); };
}

}  // namespace redline
