#include "engine/chat_template/lexer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "engine/chat_template/chat_template.h"
#include "engine/chat_template/python_text.h"
#include "engine/utf8.h"

namespace redline::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

// Line ends become "\n"; one at the end of the source goes.
std::string normalize_newlines(std::string_view source, bool drop_last) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && source.substr(i, 2) == "\r\n") continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (drop_last && text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source, true)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag();
      if (tag == source_.npos) {
        add(Token::Kind::kData, source_.substr(at_), at_, source_.size());
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      add_data(tag, kind, sign);
      at_ = tag + 2 + (sign == '-' || sign == '+');
      if (kind == '#')
        skip_comment();
      else if (kind == '%' && at_raw())
        raw_block();
      else
        tag_tokens(kind);
    }
    add(Token::Kind::kEnd, "", source_.size(), source_.size());
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw TemplateError(line_, message); }

  std::string_view rest(std::size_t from) const { return std::string_view(source_).substr(from); }

  std::size_t find_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#'))
        return i;
    return source_.npos;
  }

  void count_lines(std::size_t begin, std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(begin),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
  }

  // A token at the current line, which then moves over the source from `begin` to `end`.
  void add(Token::Kind kind, std::string text, std::size_t begin, std::size_t end) {
    if (kind != Token::Kind::kData || !text.empty()) tokens_.push_back({kind, std::move(text), line_});
    count_lines(begin, end);
  }

  // The text before a tag at `tag`. "-" strips it; else a block or comment takes away the blanks between it
  // and the line's start (lstrip_blocks) unless marked "+".
  void add_data(std::size_t tag, char kind, char sign) {
    std::string_view text = rest(at_).substr(0, tag - at_);
    if (sign == '-') {
      text = strip(text, false, true);
    } else if (sign != '+' && kind != '{') {
      const std::size_t line_start = text.rfind('\n') + 1;  // 0 where there is none
      if ((line_start > 0 || at_line_start_) && strip(text.substr(line_start), true, false).empty())
        text = text.substr(0, line_start);
    }
    add(Token::Kind::kData, std::string(text), at_, tag);
  }

  // Moves over the end `mark` of a block or comment ("%}", "#}") and what it takes along: all white space
  // where marked "-", one line end (trim_blocks) unless marked "+".
  bool skip_end(std::string_view mark, bool trims) {
    const std::size_t begin = at_;
    const char sign = at_ < source_.size() ? source_[at_] : ' ';
    const bool signed_end = sign == '-' || (sign == '+' && trims);
    if (rest(at_ + signed_end).substr(0, 2) != mark) return false;
    at_ += signed_end + 2u;
    if (signed_end && sign == '-')
      at_ = source_.size() - strip(rest(at_), true, false).size();
    else if (!signed_end && trims && rest(at_).starts_with('\n'))
      ++at_;
    count_lines(begin, at_);
    at_line_start_ = source_[at_ - 1] == '\n';
    return true;
  }

  void skip_comment() {
    const std::size_t begin = at_;
    for (; at_ < source_.size(); ++at_) {
      const std::size_t end = at_;
      if (!skip_end("#}", true)) continue;
      count_lines(begin, end);
      return;
    }
    fail("missing end of comment tag");
  }

  // "raw" and the end of its tag, from after "{%".
  bool at_raw() {
    const std::size_t begin = at_;
    const std::string_view text = strip(rest(at_), true, false);
    if (!text.starts_with("raw")) return false;
    at_ = source_.size() - strip(text.substr(3), true, false).size();
    if (skip_end("%}", false)) return true;
    at_ = begin;
    return false;
  }

  void raw_block() {
    for (std::size_t tag = source_.find("{%", at_); tag != source_.npos; tag = source_.find("{%", tag + 1)) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      const std::size_t name = tag + 2 + (sign == '-' || sign == '+');
      const std::string_view text = strip(rest(name), true, false);
      if (!text.starts_with("endraw")) continue;
      const std::size_t begin =
          std::exchange(at_, source_.size() - strip(text.substr(6), true, false).size());
      const std::size_t end = at_;
      const bool begins_line = at_line_start_;
      if (!skip_end("%}", true)) {
        at_ = begin;
        continue;
      }
      const std::size_t after = std::exchange(at_, begin);
      const bool ends_line = std::exchange(at_line_start_, begins_line);
      add_data(tag, '%', sign);
      count_lines(tag, end);
      at_ = after, at_line_start_ = ends_line;
      return;
    }
    fail("missing end of raw directive");
  }

  void tag_tokens(char kind) {
    const bool block = kind == '%';
    add(block ? Token::Kind::kBlockBegin : Token::Kind::kOutputBegin, "", at_, at_);
    std::string open;  // brackets to be closed
    while (at_ < source_.size()) {
      const char c = source_[at_];
      const std::size_t num_spaces = rest(at_).size() - strip(rest(at_), true, false).size();
      if (num_spaces > 0) {
        count_lines(at_, at_ + num_spaces);
        at_ += num_spaces;
        continue;
      }
      const int line = line_;
      if (open.empty() && skip_end(block ? "%}" : "}}", block)) {
        tokens_.push_back({block ? Token::Kind::kBlockEnd : Token::Kind::kOutputEnd, "", line});
        return;
      }
      if (is_digit(c))
        number();
      else if (is_name_start(c))
        name();
      else if (c == '\'' || c == '"')
        string(c);
      else
        operation(open);
    }
    fail("unexpected end of template");
  }

  void name() {
    const std::size_t begin = at_;
    while (at_ < source_.size() && is_name_part(source_[at_])) ++at_;
    add(Token::Kind::kName, source_.substr(begin, at_ - begin), begin, at_);
  }

  // Digits with single underscores between them.
  std::string digits(int (*belongs)(int)) {
    std::string text;
    while (at_ < source_.size()) {
      const char next = at_ + 1 < source_.size() ? source_[at_ + 1] : ' ';
      if (source_[at_] == '_' && belongs(next)) ++at_;
      if (!belongs(static_cast<unsigned char>(source_[at_]))) break;
      text += source_[at_++];
    }
    return text;
  }

  void number() {
    const std::size_t begin = at_;
    const char base = rest(at_).size() > 2 && source_[at_] == '0' ? source_[at_ + 1] : ' ';
    if (base == 'x' || base == 'X' || base == 'o' || base == 'b') {
      at_ += 2;
      const std::string text = digits(std::isxdigit);
      const int radix = base == 'o' ? 8 : base == 'b' ? 2 : 16;
      std::size_t used = 0;
      std::string value;
      try {
        value = std::to_string(std::stoll(text, &used, radix));
      } catch (const std::exception&) {
      }
      if (value.empty() || used != text.size()) fail("invalid integer");
      return add(Token::Kind::kInteger, value, begin, at_);
    }
    std::string text = digits(std::isdigit);
    Token::Kind kind = Token::Kind::kInteger;
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';  // x.1 is an item, not a fraction
    if (!after_dot && rest(at_).size() > 1 && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      ++at_;
      text += '.' + digits(std::isdigit);
      kind = Token::Kind::kFloat;
    }
    if (!after_dot && at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      const std::size_t sign = rest(at_).size() > 1 && (source_[at_ + 1] == '-' || source_[at_ + 1] == '+');
      if (rest(at_).size() > 1 + sign && is_digit(source_[at_ + 1 + sign])) {
        text += source_.substr(at_, 1 + sign);
        at_ += 1 + sign;
        text += digits(std::isdigit);
        kind = Token::Kind::kFloat;
      }
    }
    add(kind, text, begin, at_);
  }

  void string(char quote) {
    const std::size_t begin = at_++;
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size())
        escape(text);
      else
        text += source_[at_++];
    }
    if (at_++ >= source_.size()) fail("unexpected end of a string");
    add(Token::Kind::kString, std::move(text), begin, at_);
  }

  // Python's escapes; one that is none of them stays as it is.
  void escape(std::string& text) {
    constexpr std::string_view kNames = "abfnrtv\\'\"\n", kValues = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at_ + 1];
    const std::size_t simple = kNames.find(c);
    at_ += 2;
    if (simple != kNames.npos) {
      if (c != '\n') text += kValues[simple];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append_code_point(text, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16);
    } else if (c >= '0' && c <= '7') {
      --at_;
      std::size_t size = 1;
      while (size < 3 && at_ + size < source_.size() && source_[at_ + size] >= '0' &&
             source_[at_ + size] <= '7')
        ++size;
      append_code_point(text, size, 8);
    } else {
      (text += '\\') += c;
    }
  }

  void append_code_point(std::string& text, std::size_t size, int radix) {
    const std::string digits(rest(at_).substr(0, size));
    const bool valid = digits.size() == size &&
                       std::ranges::all_of(digits, [](unsigned char d) { return std::isxdigit(d); });
    const unsigned long code = valid ? std::stoul(digits, nullptr, radix) : 0x110000;
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("invalid escape in a string");
    append_utf8(text, static_cast<char32_t>(code));
    at_ += size;
  }

  void operation(std::string& open) {
    constexpr std::array<std::string_view, 24> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-",
                                                             "/",  "*",  "%",  "~",  "[",  "]",  "(", ")",
                                                             "{",  "}",  ">",  "<",  "=",  ".",  ":", "|"};
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    std::string_view op = rest(at_).starts_with(',') ? "," : "";
    for (std::string_view candidate : kOperators)
      if (op.empty() && rest(at_).starts_with(candidate)) op = candidate;
    if (op.empty()) fail(std::string("unexpected char '") + source_[at_] + "'");
    if (kOpen.find(op) != kOpen.npos) open += op;
    if (const std::size_t closes = kClose.find(op); closes != kClose.npos) {
      if (open.empty() || open.back() != kOpen[closes]) fail("unexpected '" + std::string(op) + "'");
      open.pop_back();
    }
    add(Token::Kind::kOperator, std::string(op), at_, at_ + op.size());
    at_ += op.size();
  }

  const std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // as jinja2 counts it: where the last tag's end took a line end along
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(to_valid_utf8(source)).run(); }

}  // namespace redline::jinja
