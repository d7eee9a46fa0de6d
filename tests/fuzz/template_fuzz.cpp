// Chat templates: the source, a byte 0xFF, and a JSON array of messages or an object of variables.
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/chat_template/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace redline;
  using Json = nlohmann::ordered_json;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\xFF');
  static const Json kTools =
      Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])");
  Json given;
  if (end != input.npos) given = Json::parse(input.substr(end + 1), nullptr, false);
  if (!given.is_array() && !given.is_object()) given = Json::array();
  ChatTemplate::Limits limits;
  limits.max_steps = 20'000, limits.max_bytes = 1 << 18;
  try {
    const ChatTemplate source(input.substr(0, end));
    const Json variables =
        given.is_object() ? given : chat_variables(given, kTools, {{"bos_token", "<s>"}}, true, {});
    const std::string text = source.render(variables, limits);
    if (text.size() <= static_cast<std::size_t>(limits.max_bytes)) return 0;
    std::fprintf(stderr, "%zu bytes of text\n", text.size());
    std::abort();
  } catch (const TemplateError& error) {
    if (error.line() < 1) std::abort();
  }
  return 0;
}
