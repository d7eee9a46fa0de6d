// One JSON value, checked byte by byte as it arrives.
#pragma once

#include <string>
#include <string_view>

namespace redline {

/// What a byte is in the text of a JSON value.
enum class JsonByte {
  kBad,    // no JSON value begins with the bytes so far
  kSpace,  // between tokens
  kOpen,   // of an object or an array
  kClose,
  kKey,  // of a member's name, quotes included
  kColon,
  kComma,
  kScalar  // of a string, quotes included, of a number, or of true, false, null
};

class JsonText {
 public:
  /// The next byte. After kBad, or once done(), there must be no other. Deeper than 128 is kBad.
  JsonByte feed(char c);
  /// Objects and arrays that are open.
  int depth() const { return static_cast<int>(open_.size()); }
  /// An object or array has ended and nothing is open. A scalar outside of both never ends.
  bool done() const { return done_; }

 private:
  enum class State { kValue, kValueOrEnd, kKey, kKeyOrEnd, kColon, kAfterValue, kString, kNumber, kWord };

  JsonByte begin_value(char c);
  JsonByte in_string(char c);
  JsonByte after_value(char c);
  JsonByte close(char c);
  JsonByte begin_string(bool key);
  void end_value() { state_ = State::kAfterValue; }

  std::string open_;  // '{' or '[' of each
  State state_ = State::kValue;
  bool key_ = false, escaped_ = false, done_ = false;
  int num_hex_digits_left_ = 0;    // of a \u escape
  std::string number_;             // so far
  std::string_view rest_of_word_;  // of true, false, null
};

}  // namespace redline
