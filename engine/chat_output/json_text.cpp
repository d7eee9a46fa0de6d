#include "engine/chat_output/json_text.h"

namespace redline {
namespace {

constexpr std::size_t kMaxDepth = 128;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_digit(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// The parts of a number: sign, digits, fraction, exponent.
struct NumberShape {
  bool prefix = true;     // of a number, perhaps a whole one
  bool complete = false;  // a number
};

NumberShape shape_of(std::string_view text) {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t begin = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - begin;
  };
  const auto ended = [&] { return at == text.size(); };
  if (!ended() && text[at] == '-') ++at;
  const std::size_t whole = at;
  const std::size_t num_whole = digits();
  if (num_whole == 0) return {ended(), false};
  if (num_whole > 1 && text[whole] == '0') return {false, false};
  if (ended()) return {true, true};
  if (text[at] == '.') {
    ++at;
    if (digits() == 0) return {ended(), false};
    if (ended()) return {true, true};
  }
  if (text[at] != 'e' && text[at] != 'E') return {false, false};
  ++at;
  if (!ended() && (text[at] == '+' || text[at] == '-')) ++at;
  const bool some = digits() > 0;
  return {ended(), ended() && some};
}

}  // namespace

JsonByte JsonText::feed(char c) {
  if (state_ == State::kString) return in_string(c);
  if (state_ == State::kWord && !rest_of_word_.empty()) {
    if (c != rest_of_word_.front()) return JsonByte::kBad;
    rest_of_word_.remove_prefix(1);
    return JsonByte::kScalar;
  }
  if (state_ == State::kNumber) {
    number_ += c;
    if (number_.size() <= 512 && shape_of(number_).prefix) return JsonByte::kScalar;
    number_.pop_back();
    if (!shape_of(number_).complete) return JsonByte::kBad;
  }
  if (state_ == State::kNumber || state_ == State::kWord) end_value();
  if (is_space(c)) return JsonByte::kSpace;
  switch (state_) {
    case State::kKeyOrEnd:
      if (c == '}') return close(c);
      [[fallthrough]];
    case State::kKey:
      return c == '"' ? begin_string(true) : JsonByte::kBad;
    case State::kColon:
      if (c != ':') return JsonByte::kBad;
      state_ = State::kValue;
      return JsonByte::kColon;
    case State::kAfterValue:
      return after_value(c);
    case State::kValueOrEnd:
      if (c == ']') return close(c);
      [[fallthrough]];
    default:
      return begin_value(c);
  }
}

JsonByte JsonText::begin_value(char c) {
  if (c == '{' || c == '[') {
    if (open_.size() == kMaxDepth) return JsonByte::kBad;
    open_ += c;
    state_ = c == '{' ? State::kKeyOrEnd : State::kValueOrEnd;
    return JsonByte::kOpen;
  }
  if (c == '"') return begin_string(false);
  if (c == '-' || is_digit(c)) {
    number_ = c;
    state_ = State::kNumber;
    return JsonByte::kScalar;
  }
  for (const std::string_view word : {"true", "false", "null"})
    if (c == word.front()) {
      rest_of_word_ = word.substr(1);
      state_ = State::kWord;
      return JsonByte::kScalar;
    }
  return JsonByte::kBad;
}

JsonByte JsonText::begin_string(bool key) {
  key_ = key;
  state_ = State::kString;
  return key ? JsonByte::kKey : JsonByte::kScalar;
}

JsonByte JsonText::in_string(char c) {
  const JsonByte byte = key_ ? JsonByte::kKey : JsonByte::kScalar;
  if (num_hex_digits_left_ > 0) {
    --num_hex_digits_left_;
    return is_hex_digit(c) ? byte : JsonByte::kBad;
  }
  if (escaped_) {
    escaped_ = false;
    if (c == 'u') num_hex_digits_left_ = 4;
    return std::string_view("\"\\/bfnrtu").find(c) != std::string_view::npos ? byte : JsonByte::kBad;
  }
  if (static_cast<unsigned char>(c) < 0x20) return JsonByte::kBad;
  if (c == '\\') escaped_ = true;
  if (c == '"') state_ = key_ ? State::kColon : State::kAfterValue;
  return byte;
}

JsonByte JsonText::after_value(char c) {
  if (c != ',') return close(c);
  if (open_.empty()) return JsonByte::kBad;
  state_ = open_.back() == '{' ? State::kKey : State::kValue;
  return JsonByte::kComma;
}

JsonByte JsonText::close(char c) {
  if (open_.empty() || c != (open_.back() == '{' ? '}' : ']')) return JsonByte::kBad;
  open_.pop_back();
  done_ = open_.empty();
  end_value();
  return JsonByte::kClose;
}

}  // namespace redline
