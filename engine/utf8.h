// UTF-8, strictly (no surrogates, nothing overlong, nothing above U+10FFFF), one unit at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace redline {

/// What starts at one place of a text: a character, or the longest prefix of one that is broken off there
/// (Unicode's "maximal subpart", which a decoder replaces by one U+FFFD).
struct Utf8Unit {
  std::size_t num_bytes = 0;  // at least 1
  bool valid = false;
  bool incomplete = false;  // broken off by the end of the text: more bytes could complete it
  char32_t code_point = 0;  // of a valid unit
};

/// The unit at `at`; requires at < text.size().
Utf8Unit utf8_unit(std::string_view text, std::size_t at);

/// Appends the character to `text`; requires a Unicode scalar value.
void append_utf8(std::string& text, char32_t code_point);

/// Turns bytes that arrive in pieces into valid UTF-8, each invalid unit into U+FFFD. However the bytes are
/// cut, the outputs joined are the same.
class Utf8Stream {
 public:
  /// What is certain so far: all but a character that `bytes` leave unfinished.
  std::string feed(std::string_view bytes);
  /// U+FFFD for what was left unfinished, else nothing. The stream is as new then.
  std::string finish();

 private:
  std::string pending_;  // at most 3 bytes
};

/// `bytes` with each invalid unit replaced by U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

}  // namespace redline
