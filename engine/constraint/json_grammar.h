// The parts of JSON texts as grammar expressions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/constraint/grammar.h"

namespace redline {

/// Builds JSON's parts in one grammar; those that are used again become rules. Between tokens white space is
/// bounded (a space, or one or two line breaks and up to 20 blanks), and numbers have at most 16 digits, so
/// that no model can go on in them without end.
class JsonGrammar {
 public:
  using Expression = Grammar::Expression;

  /// Keeps a reference to `grammar`.
  explicit JsonGrammar(Grammar& grammar) : grammar_(grammar) {}

  Expression space();
  /// A string of `min` to `max` characters, however they are escaped.
  Expression string(std::uint32_t min = 0, std::uint32_t max = Grammar::kUnbounded);
  /// A string that is none of `names`; characters are escaped only where they must be.
  Expression string_other_than(std::span<const std::string> names);
  /// One character of `ranges` as it stands in a string: escaped only where it must be.
  Expression characters(const std::vector<CodePointRange>& ranges);
  Expression quoted(Expression content);
  Expression number();
  Expression integer();
  /// Any value, any object, any array.
  Expression value();
  Expression object();
  Expression array();
  /// key : value, with the key's text as a JSON string.
  Expression member(Expression key, Expression value);
  /// `parts` with , between them and `more` times at least `min` and at most `max` after them.
  Expression list(char open, char close, const std::vector<Expression>& parts, std::optional<Expression> more,
                  std::uint32_t min, std::uint32_t max);
  Expression comma();

  Grammar& grammar() { return grammar_; }

 private:
  static constexpr std::uint32_t kBlock = 48;  // characters of a string that are counted together
  template <typename Make>
  Expression shared(const std::string& name, Make make);
  /// One character of a string, in any spelling.
  Expression character();
  Expression block();
  Expression end_after(std::uint32_t most);
  Expression other_than(const std::vector<std::u32string>& names, std::size_t depth);

  Grammar& grammar_;
  std::map<std::string, Grammar::Rule> rules_;
};

}  // namespace redline
