// Template source to tokens, with jinja2's white space control under trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace redline::jinja {

struct Token {
  enum class Kind : std::uint8_t {
    kData,         // text outside of tags
    kOutputBegin,  // {{
    kOutputEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,  // unescaped
    kInteger,
    kFloat,
    kOperator,  // "(", "==", ...
    kEnd
  };
  Kind kind;
  std::string text;
  int line;
};

/// Ends with one kEnd. Throws TemplateError at the line of what cannot be read.
std::vector<Token> tokenize(std::string_view source);

}  // namespace redline::jinja
