// Unicode's normalisation forms, and what else tokenizers ask of a character (utf8proc's tables).
#pragma once

#include <string>
#include <string_view>

namespace redline {

/// NFC, NFD, NFKC or NFKD of `text`, which must be valid UTF-8. Time is linear but for sorting runs of marks.
std::string unicode_normalize(std::string_view text, bool compatible, bool composed);

/// Each character's lowercase by itself, whatever its neighbours (so every capital sigma becomes U+03C3).
std::string lowercase(std::string_view text);

/// `text` without its marks (category M).
std::string strip_accents(std::string_view text);

/// White_Space.
bool is_white_space(char32_t code_point);

}  // namespace redline
