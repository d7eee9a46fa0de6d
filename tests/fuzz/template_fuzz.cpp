// Chat templates: the source and, after a byte 0xFF, a JSON array of messages or an object of variables.
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
  static const Json kVariables =
      Json::parse(R"({"name": "World", "empty": "", "n": 7, "x": 2.5, "yes": true, "no": false,
    "nil": null, "text": "  Hello, \"w\u00f6rld\" \u4f60\n", "list": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"],
    "nested": [[1, 2], [3, [4]], []], "dict": {"b": 1, "a": [1, null], "C": {"d": "e\"'\n"}}, "html": "<a>&</a>",
    "users": [{"name": "Ann", "age": 30}, {"name": "bob"}], "tools": [{"function": {"name": "f"}}],
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!\n"}]})");
  Json variables = kVariables;
  if (end != input.npos) {
    const Json given = Json::parse(input.substr(end + 1), nullptr, false);
    if (given.is_array()) variables["messages"] = given;
    if (given.is_object()) variables = given;
  }
  ChatTemplate::Limits limits;
  limits.max_steps = 2'000, limits.max_bytes = 1 << 16;
  try {
    const ChatTemplate source(input.substr(0, end));
    const std::string text = source.render(variables, limits);
    if (text.size() <= static_cast<std::size_t>(limits.max_bytes)) return 0;
    std::fprintf(stderr, "%zu bytes of text\n", text.size());
    std::abort();
  } catch (const TemplateError& error) {
    if (error.line() < 1) std::abort();
  }
  return 0;
}
