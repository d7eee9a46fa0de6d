#include "engine/constraint/regex_grammar.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <utility>

#include "engine/utf8.h"

namespace redline {
namespace {

using Ranges = std::vector<CodePointRange>;

constexpr int kMaxGroups = 100;  // that lie in each other
constexpr std::size_t kMaxPatternBytes = 1u << 16;

Ranges line_ends() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }
Ranges digits() { return {{'0', '9'}}; }
Ranges word() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
Ranges white_space() {
  return {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}

class RegexParser {
  using Expression = Grammar::Expression;

 public:
  RegexParser(Grammar& grammar, std::string_view pattern, RegexMatches matches,
              const std::function<Grammar::Expression(const Ranges&)>& characters)
      : grammar_(grammar), pattern_(pattern), matches_(matches), characters_(characters) {}

  Expression parse() {
    if (pattern_.size() > kMaxPatternBytes) fail("more than " + std::to_string(kMaxPatternBytes) + " bytes");
    const Expression expression = alternatives(0, true, true);
    if (at_ < pattern_.size()) fail("a ) without (");
    return expression;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw GrammarError("the pattern, at byte " + std::to_string(at_) + ": " + what);
  }
  bool at_end() const { return at_ >= pattern_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool take(std::string_view text) {
    if (!pattern_.substr(std::min(at_, pattern_.size())).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  Expression anything() {
    return grammar_.repeat(characters_({{0, kLastCodePoint}}), 0, Grammar::kUnbounded);
  }

  // Anchors may stand where nothing can be before, or after: at the ends of the outermost alternatives.
  Expression alternatives(int depth, bool begins, bool ends) {
    std::vector<Expression> ways;
    do {
      ways.push_back(sequence(depth, begins, ends));
    } while (take("|"));
    return grammar_.choice(std::move(ways));
  }

  Expression sequence(int depth, bool begins, bool ends) {
    std::vector<Expression> parts;
    bool held_before = !begins || matches_ == RegexMatches::kWhole,
         held_after = !ends || matches_ == RegexMatches::kWhole;
    while (begins && take("^")) held_before = true;
    while (!at_end() && peek() != '|' && peek() != ')') {
      if (peek() == '$') {
        ++at_;
        if (!ends || !(at_end() || peek() == '|' || peek() == ')'))
          fail("$ anywhere but at the end is not supported");
        held_after = true;
        break;
      }
      parts.push_back(quantified(atom(depth)));
    }
    if (!held_before) parts.insert(parts.begin(), anything());
    if (!held_after) parts.push_back(anything());
    return grammar_.sequence(std::move(parts));
  }

  Expression quantified(Expression part) {
    for (int count = 0;; ++count) {
      std::uint32_t min = 0, max = Grammar::kUnbounded;
      if (take("+")) {
        min = 1;
      } else if (take("?")) {
        max = 1;
      } else if (peek() == '{') {
        ++at_;
        min = max = number();
        if (take(",")) max = peek() == '}' ? Grammar::kUnbounded : number();
        if (!take("}")) fail("expected }");
      } else if (!take("*")) {
        return part;
      }
      if (count > 0) fail("nothing to repeat");
      if (!take("?") && peek() == '+')
        fail("possessive repetitions are not supported");  // lazy: the same texts
      part = grammar_.repeat(part, min, max);
    }
  }

  std::uint32_t number() {
    std::uint32_t value = 0;
    const std::size_t begin = at_;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      if (at_ - begin >= 9) fail("a number of repetitions is too large");
      value = value * 10 + static_cast<std::uint32_t>(peek() - '0');
    }
    if (at_ == begin) fail("expected a number");
    return value;
  }

  Expression atom(int depth) {
    if (take("(")) {
      if (depth >= kMaxGroups) fail("groups nest deeper than " + std::to_string(kMaxGroups));
      if (take("?") && !take(":")) {
        if (!take("P<") && !take("<")) fail("looking around and flags are not supported");
        if (peek() == '=' || peek() == '!') fail("looking around is not supported");
        while (!at_end() && peek() != '>') ++at_;
        if (!take(">")) fail("expected > after a group's name");
      }
      const Expression group = alternatives(depth + 1, false, false);
      if (!take(")")) fail("expected )");
      return group;
    }
    if (take("[")) return character_class();
    if (take(".")) return characters_(complement(line_ends()));
    if (peek() == '^') fail("^ anywhere but at the start is not supported");
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') fail("nothing to repeat");
    if (take("\\")) return characters_(escape(false));
    const char32_t c = character();
    return characters_({{c, c}});
  }

  char32_t character() {
    const Utf8Unit unit = utf8_unit(pattern_, at_);
    if (!unit.valid) fail("invalid UTF-8");
    at_ += unit.num_bytes;
    return unit.code_point;
  }

  // After the backslash.
  Ranges escape(bool in_class) {
    if (at_end()) fail("a \\ at the end");
    const auto one = [](char32_t c) { return Ranges{{c, c}}; };
    const char c = peek();
    ++at_;
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return complement(digits());
      case 'w':
        return word();
      case 'W':
        return complement(word());
      case 's':
        return white_space();
      case 'S':
        return complement(white_space());
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        if (std::isdigit(static_cast<unsigned char>(peek())) == 0) return one(0);
        break;
      case 'b':
        if (in_class) return one('\b');
        break;
      case 'x':
        return one(hex(2));
      case 'u':
        if (take("{")) {
          const char32_t value = hex(0);
          if (!take("}")) fail("expected }");
          return one(value);
        }
        return one(hex(4));
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) {
          --at_;
          return one(character());
        }
    }
    --at_;
    fail(std::string("\\") + c + " is not supported");
  }

  // `digits` of them; 0: as many as there are.
  char32_t hex(std::size_t digits) {
    char32_t value = 0;
    std::size_t count = 0;
    for (;
         (digits == 0 ? count < 6 : count < digits) && std::isxdigit(static_cast<unsigned char>(peek())) != 0;
         ++count, ++at_)
      value = value * 16 + static_cast<char32_t>(std::stoi(std::string(1, peek()), nullptr, 16));
    if (count == 0 || (digits != 0 && count != digits)) fail("expected hexadecimal digits");
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF)) fail("that is no Unicode character");
    return value;
  }

  Expression character_class() {
    const bool negated = take("^");
    Ranges ranges;
    while (!take("]")) {
      if (at_end()) fail("a [ without ]");
      const Ranges first = take("\\") ? escape(true) : one_character();
      if (peek() == '-' && peek(1) != ']' && peek(1) != '\0') {
        ++at_;
        const Ranges last = take("\\") ? escape(true) : one_character();
        const auto single = [](const Ranges& set) { return set.size() == 1 && set[0].first == set[0].last; };
        if (!single(first) || !single(last) || last[0].first < first[0].first) fail("a range that is none");
        ranges.push_back({first[0].first, last[0].last});
      } else {
        ranges.insert(ranges.end(), first.begin(), first.end());
      }
    }
    return characters_(negated ? complement(std::move(ranges)) : ranges);
  }
  Ranges one_character() {
    const char32_t c = character();
    return {{c, c}};
  }

  Grammar& grammar_;
  std::string_view pattern_;
  RegexMatches matches_;
  const std::function<Expression(const Ranges&)>& characters_;
  std::size_t at_ = 0;
};

}  // namespace

Grammar::Expression regex_expression(
    Grammar& grammar, std::string_view pattern, RegexMatches matches,
    const std::function<Grammar::Expression(const std::vector<CodePointRange>&)>& characters) {
  return RegexParser(grammar, pattern, matches, characters).parse();
}

}  // namespace redline
