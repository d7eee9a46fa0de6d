// Patterns of tokenizer.json are Oniguruma's (Ruby syntax); the engine's are PCRE2's.
#pragma once

#include <string>
#include <string_view>

namespace redline {

/// `pattern` as PCRE2 has to read it to match the same texts: sets within sets are opened, \w, \h, ^, $ and
/// script names mean what they mean there. Throws std::invalid_argument for an intersection of sets and for a
/// negated set within a set.
std::string from_oniguruma(std::string_view pattern);

}  // namespace redline
