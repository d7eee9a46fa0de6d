#include "engine/constraint/gbnf.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/utf8.h"

namespace redline {
namespace {

constexpr std::size_t kMaxTextBytes = 1u << 20;
constexpr int kMaxGroups = 100;  // that lie in each other

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Grammar parse() {
    if (text_.size() > kMaxTextBytes)
      throw GrammarError("the grammar has " + std::to_string(text_.size()) + " bytes, the most are " +
                         std::to_string(kMaxTextBytes));
    grammar_.add_rule("root");
    uses_["root"] = {0, 0};
    skip(true);
    while (at_ < text_.size()) rule();
    for (const auto& [name, use] : uses_)
      if (!grammar_.defined(use.rule)) {
        at_ = use.at;
        fail(name == "root" ? "there is no rule root" : "there is no rule " + shown(name));
      }
    return std::move(grammar_);
  }

 private:
  using Expression = Grammar::Expression;
  struct Use {
    Grammar::Rule rule = 0;
    std::size_t at = 0;  // where it is named first
  };

  [[noreturn]] void fail(const std::string& what) const {
    const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
    const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1: 0
    throw GrammarError("line " + std::to_string(std::ranges::count(before, '\n') + 1) + ", column " +
                       std::to_string(before.size() - line_start + 1) + ": " + what);
  }
  static std::string shown(std::string_view name) {
    return name.size() <= 60 ? std::string(name) : std::string(name.substr(0, 60)) + "...";
  }
  // What the grammar itself refuses gets its place.
  template <typename Make>
  auto placed(Make make) const {
    try {
      return make();
    } catch (const GrammarError& error) {
      fail(error.what());
    }
  }

  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  // Spaces and comments; line breaks too where a rule cannot end there.
  void skip(bool over_lines) {
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '#') at_ = std::min(text_.find('\n', at_), text_.size());
      if (at_ == text_.size()) return;
      const char c = text_[at_];
      if (c != ' ' && c != '\t' && !(over_lines && (c == '\n' || c == '\r'))) return;
    }
  }

  std::string_view name() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name_character(text_[at_])) ++at_;
    if (at_ == begin) fail("expected a rule's name");
    return text_.substr(begin, at_ - begin);
  }

  Grammar::Rule rule_of(std::string_view rule_name, std::size_t at) {
    const auto found = uses_.find(rule_name);
    if (found != uses_.end()) return found->second.rule;
    const Grammar::Rule rule = placed([&] { return grammar_.add_rule(std::string(rule_name)); });
    uses_.emplace(rule_name, Use{rule, at});
    return rule;
  }

  void rule() {
    const std::size_t begin = at_;
    const std::string_view rule_name = name();
    skip(false);
    if (!take("::=")) fail("expected ::= after the rule's name");
    skip(true);
    const Grammar::Rule defined = rule_of(rule_name, begin);
    if (grammar_.defined(defined)) {
      at_ = begin;
      fail("the rule " + shown(rule_name) + " is defined twice");
    }
    grammar_.define(defined, alternatives(0));
    if (at_ < text_.size() && peek() != '\n' && peek() != '\r') fail("expected the end of the rule");
    skip(true);
  }

  Expression alternatives(int depth) {
    std::vector<Expression> parts = {sequence(depth)};
    for (;;) {
      const std::size_t end = at_;
      skip(true);
      if (!take("|")) {
        at_ = end;
        break;
      }
      skip(true);
      parts.push_back(sequence(depth));
    }
    if (depth > 0) skip(true);
    return placed([&] { return grammar_.choice(std::move(parts)); });
  }

  Expression sequence(int depth) {
    std::vector<Expression> parts;
    for (;;) {
      const std::optional<Expression> part = item(depth);
      if (!part) break;
      skip(depth > 0);
      parts.push_back(repeated(*part, depth));
    }
    return placed([&] { return grammar_.sequence(std::move(parts)); });
  }

  std::optional<Expression> item(int depth) {
    const std::size_t begin = at_;
    if (take("\"")) return literal();
    if (take("[")) return character_class();
    if (take(".")) return placed([&] { return grammar_.characters({{0, kLastCodePoint}}); });
    if (take("<")) {
      const std::size_t end = text_.find('>', at_);
      if (end == text_.npos || end - begin > 100) fail("expected > after a token's name");
      at_ = end + 1;
      return placed([&] { return grammar_.token(text_.substr(begin, at_ - begin)); });
    }
    if (take("(")) {
      if (depth >= kMaxGroups) fail("groups nest deeper than " + std::to_string(kMaxGroups));
      skip(true);
      const Expression group = alternatives(depth + 1);
      if (!take(")")) fail("expected )");
      return group;
    }
    if (!is_name_character(peek())) return std::nullopt;
    const Grammar::Rule called = rule_of(name(), begin);
    return placed([&] { return grammar_.call(called); });
  }

  Expression repeated(Expression part, int depth) {
    for (;;) {
      std::uint32_t min = 0, max = Grammar::kUnbounded;
      if (take("+")) {
        min = 1;
      } else if (take("?")) {
        max = 1;
      } else if (take("{")) {
        skip(true);
        min = number();
        skip(true);
        max = min;
        if (take(",")) {
          skip(true);
          max = peek() == '}' ? Grammar::kUnbounded : number();
          skip(true);
        }
        if (!take("}")) fail("expected }");
      } else if (!take("*")) {
        return part;
      }
      skip(depth > 0);
      part = placed([&] { return grammar_.repeat(part, min, max); });
    }
  }

  std::uint32_t number() {
    const std::size_t begin = at_;
    std::uint32_t value = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      if (at_ - begin >= 9) fail("a number of repetitions is too large");
      value = value * 10 + static_cast<std::uint32_t>(peek() - '0');
    }
    if (at_ == begin) fail("expected a number");
    return value;
  }

  char32_t hex(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const auto c = static_cast<unsigned char>(peek());
      if (std::isxdigit(c) == 0) fail("expected " + std::to_string(digits) + " hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(std::isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF)) fail("that is no Unicode character");
    return value;
  }

  char32_t character() {
    if (at_ >= text_.size()) fail("the text ends inside a literal or class");
    if (take("\\")) {
      const char c = peek();
      ++at_;
      switch (c) {
        case 'n':
          return '\n';
        case 'r':
          return '\r';
        case 't':
          return '\t';
        case 'x':
          return hex(2);
        case 'u':
          return hex(4);
        case 'U':
          return hex(8);
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
        case '^':
        case '/':
          return static_cast<char32_t>(c);
        default:
          --at_;
          fail("an unknown escape");
      }
    }
    const Utf8Unit unit = utf8_unit(text_, at_);
    if (!unit.valid) fail("invalid UTF-8");
    at_ += unit.num_bytes;
    return unit.code_point;
  }

  Expression literal() {
    std::string bytes;
    while (!take("\"")) append_utf8(bytes, character());
    return placed([&] { return grammar_.bytes(bytes); });
  }

  Expression character_class() {
    const bool negated = take("^");
    std::vector<CodePointRange> ranges;
    while (!take("]")) {
      const char32_t first = character();
      char32_t last = first;
      if (peek() == '-' && peek(1) != ']' && peek(1) != '\0') {
        ++at_;
        last = character();
        if (last < first) fail("a range's end lies before its start");
      }
      ranges.push_back({first, last});
    }
    if (negated) ranges = complement(std::move(ranges));
    return placed([&] { return grammar_.characters(std::move(ranges)); });
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Grammar grammar_;
  std::map<std::string, Use, std::less<>> uses_;
};

}  // namespace

Grammar parse_gbnf(std::string_view text) { return Parser(text).parse(); }

}  // namespace redline
