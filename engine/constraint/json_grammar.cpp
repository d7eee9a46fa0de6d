#include "engine/constraint/json_grammar.h"

#include <algorithm>

#include "engine/utf8.h"

namespace redline {
namespace {

std::vector<CodePointRange> unescaped() { return {{' ', '!'}, {'#', '['}, {']', kLastCodePoint}}; }

}  // namespace

template <typename Make>
JsonGrammar::Expression JsonGrammar::shared(const std::string& name, Make make) {
  const auto found = rules_.find(name);
  if (found != rules_.end()) return grammar_.call(found->second);
  const Grammar::Rule rule = grammar_.add_rule(name);
  rules_.emplace(name, rule);  // before its body, which may call it
  grammar_.define(rule, make());
  return grammar_.call(rule);
}

JsonGrammar::Expression JsonGrammar::space() {
  return shared("space", [this] {
    const Expression lines = grammar_.repeat(grammar_.bytes("\n"), 1, 2);
    const Expression blanks = grammar_.repeat(grammar_.characters({{' ', ' '}, {'\t', '\t'}}), 0, 20);
    return grammar_.optional(grammar_.choice({grammar_.bytes(" "), grammar_.sequence({lines, blanks})}));
  });
}

JsonGrammar::Expression JsonGrammar::quoted(Expression content) {
  return grammar_.sequence({grammar_.bytes("\""), content, grammar_.bytes("\"")});
}

JsonGrammar::Expression JsonGrammar::character() {
  const auto hex = [this](const char* digits, std::uint32_t times) {
    std::vector<CodePointRange> ranges;
    for (const char* c = digits; *c; c += 2)
      ranges.push_back({static_cast<unsigned char>(c[0]), static_cast<unsigned char>(c[1])});
    return grammar_.repeat(grammar_.characters(std::move(ranges)), times, times);
  };
  // A surrogate stands only before its other half.
  const Expression low_half =
      grammar_.sequence({grammar_.bytes("\\u"), hex("ddDD", 1), hex("cfCF", 1), hex("09afAF", 2)});
  const Expression code =
      grammar_.choice({grammar_.sequence({hex("09acAC", 1), hex("09afAF", 3)}),
                       grammar_.sequence({hex("efEF", 1), hex("09afAF", 3)}),
                       grammar_.sequence({hex("ddDD", 1), hex("07", 1), hex("09afAF", 2)}),
                       grammar_.sequence({hex("ddDD", 1), hex("89abAB", 1), hex("09afAF", 2), low_half})});
  std::vector<CodePointRange> letters;
  for (const char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'})
    letters.push_back({static_cast<char32_t>(c), static_cast<char32_t>(c)});
  const Expression escape = grammar_.sequence(
      {grammar_.bytes("\\"), grammar_.choice({grammar_.characters(std::move(letters)),
                                              grammar_.sequence({grammar_.bytes("u"), code})})});
  return grammar_.choice({grammar_.characters(unescaped()), escape});
}

JsonGrammar::Expression JsonGrammar::string(std::uint32_t min, std::uint32_t max) {
  if (min > max) return grammar_.choice({});
  const std::string limits = min == 0 && max == Grammar::kUnbounded
                                 ? ""
                                 : " of " + std::to_string(min) + " to " + std::to_string(max);
  return shared("string" + limits, [&] {
    std::vector<Expression> parts = {grammar_.bytes("\"")};
    for (; min >= kBlock; min -= kBlock, max -= max == Grammar::kUnbounded ? 0 : kBlock)
      parts.push_back(block());
    const std::uint32_t more = max == Grammar::kUnbounded ? 0 : max - min;
    parts.push_back(grammar_.repeat(character(), min, max == Grammar::kUnbounded ? max : min));
    parts.push_back(end_after(more));
    return grammar_.sequence(std::move(parts));
  });
}

JsonGrammar::Expression JsonGrammar::block() {
  return shared("characters of a string", [this] { return grammar_.repeat(character(), kBlock, kBlock); });
}

// At most `most` characters and the closing quote. All long strings share the machines for a whole block and
// for an end within one, so that what these allow is worked out once for every place in every such string.
JsonGrammar::Expression JsonGrammar::end_after(std::uint32_t most) {
  const auto end = [this](std::uint32_t characters) {
    return grammar_.sequence({grammar_.repeat(character(), 0, characters), grammar_.bytes("\"")});
  };
  if (most < kBlock) return end(most);
  const Expression here = shared("end of a string", [&] { return end(kBlock - 1); });
  Expression rest = end(most % kBlock);
  for (std::uint32_t left = kBlock + most % kBlock; left <= most; left += kBlock) {
    const Grammar::Rule rule = grammar_.add_rule("string with " + std::to_string(left) + " more");
    grammar_.define(rule, grammar_.choice({here, grammar_.sequence({block(), rest})}));
    rest = grammar_.call(rule);
  }
  return rest;
}

JsonGrammar::Expression JsonGrammar::characters(const std::vector<CodePointRange>& ranges) {
  std::vector<CodePointRange> excluded = complement(ranges);
  const std::vector<CodePointRange> escaped = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  std::vector<Expression> ways;
  for (const CodePointRange& range : normalized(ranges))
    for (const CodePointRange& special : escaped)
      for (char32_t c = std::max(range.first, special.first); c <= std::min(range.last, special.last); ++c) {
        constexpr std::string_view kNamed = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
        const auto at = kNamed.find(static_cast<char>(c));
        constexpr char kHex[] = "0123456789abcdef";
        ways.push_back(grammar_.bytes(at != kNamed.npos
                                          ? std::string("\\") + kNames[at]
                                          : std::string("\\u00") + kHex[c >> 4] + kHex[c & 15]));
      }
  excluded.insert(excluded.end(), escaped.begin(), escaped.end());
  ways.push_back(grammar_.characters(complement(std::move(excluded))));
  return grammar_.choice(std::move(ways));
}

// `names` are sorted, and agree in their first `depth` characters.
JsonGrammar::Expression JsonGrammar::other_than(const std::vector<std::u32string>& names, std::size_t depth) {
  const auto rest = [this] {
    return grammar_.repeat(characters({{0, kLastCodePoint}}), 0, Grammar::kUnbounded);
  };
  std::vector<Expression> ways;
  std::vector<CodePointRange> others;
  const bool is_name = !names.empty() && names.front().size() == depth;
  if (!is_name) ways.push_back(grammar_.empty());
  for (auto first = names.begin() + (is_name ? 1 : 0); first != names.end();) {
    const char32_t c = (*first)[depth];
    const auto last = std::find_if(first, names.end(), [&](const auto& name) { return name[depth] != c; });
    // A rule for each name's branch, so that long names do not nest.
    const Grammar::Rule branch = grammar_.add_rule("a key");
    grammar_.define(branch, other_than({first, last}, depth + 1));
    ways.push_back(grammar_.sequence({characters({{c, c}}), grammar_.call(branch)}));
    others.push_back({c, c});
    first = last;
  }
  ways.push_back(grammar_.sequence({characters(complement(std::move(others))), rest()}));
  return grammar_.choice(std::move(ways));
}

JsonGrammar::Expression JsonGrammar::string_other_than(std::span<const std::string> names) {
  std::vector<std::u32string> sorted;
  for (const std::string& name : names) {
    std::u32string& characters = sorted.emplace_back();
    if (name.size() > 200) throw GrammarError("a property's name has more than 200 bytes");
    for (std::size_t at = 0; at < name.size();) {
      const Utf8Unit unit = utf8_unit(name, at);
      characters += unit.code_point;
      at += unit.num_bytes;
    }
  }
  std::ranges::sort(sorted);
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  return quoted(other_than(sorted, 0));
}

JsonGrammar::Expression JsonGrammar::integer() {
  return shared("integer", [this] {
    const Expression digit = grammar_.characters({{'0', '9'}});
    return grammar_.sequence(
        {grammar_.optional(grammar_.bytes("-")),
         grammar_.choice({grammar_.bytes("0"), grammar_.sequence({grammar_.characters({{'1', '9'}}),
                                                                  grammar_.repeat(digit, 0, 15)})})});
  });
}

JsonGrammar::Expression JsonGrammar::number() {
  return shared("number", [this] {
    const Expression digit = grammar_.characters({{'0', '9'}});
    const Expression sign = grammar_.optional(grammar_.characters({{'+', '+'}, {'-', '-'}}));
    const Expression fraction = grammar_.sequence({grammar_.bytes("."), grammar_.repeat(digit, 1, 16)});
    const Expression exponent = grammar_.sequence(
        {grammar_.characters({{'e', 'e'}, {'E', 'E'}}), sign, grammar_.repeat(digit, 1, 2)});
    return grammar_.sequence({integer(), grammar_.optional(fraction), grammar_.optional(exponent)});
  });
}

JsonGrammar::Expression JsonGrammar::comma() {
  return grammar_.sequence({space(), grammar_.bytes(","), space()});
}

JsonGrammar::Expression JsonGrammar::member(Expression key, Expression value) {
  return grammar_.sequence({key, grammar_.bytes(":"), space(), value});
}

JsonGrammar::Expression JsonGrammar::list(char open, char close, const std::vector<Expression>& parts,
                                          std::optional<Expression> more, std::uint32_t min,
                                          std::uint32_t max) {
  std::vector<Expression> sequence = {grammar_.bytes(std::string(1, open)), space()};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) sequence.push_back(comma());
    sequence.push_back(parts[i]);
  }
  if (more && max > 0) {
    const auto after_comma = [&](std::uint32_t least, std::uint32_t most) {
      return grammar_.repeat(grammar_.sequence({comma(), *more}), least, most);
    };
    if (!parts.empty()) {
      sequence.push_back(after_comma(min, max));
    } else {
      const std::uint32_t most = max == Grammar::kUnbounded ? max : max - 1;
      const Expression some = grammar_.sequence({*more, after_comma(min > 0 ? min - 1 : 0, most), space()});
      sequence.push_back(min > 0 ? some : grammar_.optional(some));
    }
  }
  if (!parts.empty()) sequence.push_back(space());
  sequence.push_back(grammar_.bytes(std::string(1, close)));
  return grammar_.sequence(std::move(sequence));
}

JsonGrammar::Expression JsonGrammar::object() {
  return shared("object",
                [this] { return list('{', '}', {}, member(string(), value()), 0, Grammar::kUnbounded); });
}

JsonGrammar::Expression JsonGrammar::array() {
  return shared("array", [this] { return list('[', ']', {}, value(), 0, Grammar::kUnbounded); });
}

JsonGrammar::Expression JsonGrammar::value() {
  return shared("value", [this] {
    return grammar_.choice({string(), number(), object(), array(), grammar_.bytes("true"),
                            grammar_.bytes("false"), grammar_.bytes("null")});
  });
}

}  // namespace redline
