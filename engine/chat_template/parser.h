// Tokens to a syntax tree, by jinja2's grammar.
#pragma once

#include <string_view>

#include "engine/chat_template/ast.h"

namespace redline::jinja {

/// Throws TemplateError at the line of the first mistake, or where the source nests too deeply.
Block parse(std::string_view source);

}  // namespace redline::jinja
