// A context-free grammar over text: what GBNF, JSON schemas and regular expressions become.
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace redline {

/// A grammar or schema that is wrong, not supported, or too large: a client's mistake. The message says
/// where.
struct GrammarError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Unicode scalar values, both ends included.
struct CodePointRange {
  char32_t first = 0, last = 0;
  bool operator==(const CodePointRange&) const = default;
};
inline constexpr char32_t kLastCodePoint = 0x10FFFF;

/// `ranges` sorted, joined where they touch, without surrogates.
std::vector<CodePointRange> normalized(std::vector<CodePointRange> ranges);
/// Every scalar value that is not in `ranges`.
std::vector<CodePointRange> complement(std::vector<CodePointRange> ranges);

/// Expressions and the rules that they define, grown from the leaves up. Every call throws GrammarError where
/// the grammar would grow beyond kMaxExpressions, kMaxRules, kMaxDepth or kMaxRepeat.
class Grammar {
 public:
  using Expression = std::uint32_t;
  using Rule = std::uint32_t;
  static constexpr std::uint32_t kUnbounded = UINT32_MAX;
  static constexpr std::size_t kMaxExpressions = 1u << 18, kMaxRules = 1u << 15, kMaxBytes = 1u << 21;
  static constexpr std::uint32_t kMaxDepth = 200, kMaxRepeat = 100'000;

  enum class Kind : std::uint8_t { kBytes, kCharacters, kToken, kSequence, kChoice, kRepeat, kCall };
  struct Node {
    Kind kind = Kind::kBytes;
    std::uint32_t depth = 0;  // of expressions below, rules not entered
    std::uint32_t begin = 0,
                  count = 0;  // of its bytes, ranges, or parts; kRepeat: begin is the part; kCall: the rule
    std::uint32_t min = 0, max = 0;  // of kRepeat
  };

  /// Exactly these bytes; empty: the empty text.
  Expression bytes(std::string_view text);
  Expression empty() { return bytes({}); }
  /// One character of `ranges`, in UTF-8; none of them: no text at all.
  Expression characters(std::vector<CodePointRange> ranges);
  /// The special token of that name, which no text spells; where the vocabulary has none, the name's bytes.
  Expression token(std::string_view name);
  Expression sequence(std::vector<Expression> parts);
  Expression choice(std::vector<Expression> parts);
  /// `part` from `min` to `max` times.
  Expression repeat(Expression part, std::uint32_t min, std::uint32_t max);
  Expression optional(Expression part) { return repeat(part, 0, 1); }
  Expression call(Rule rule);

  /// A rule without a body yet. The first is the root.
  Rule add_rule(std::string name);
  void define(Rule rule, Expression body);
  bool defined(Rule rule) const { return bodies_[rule] != kUndefined; }

  std::size_t num_rules() const { return bodies_.size(); }
  const std::string& rule_name(Rule rule) const { return names_[rule]; }
  /// Requires a defined rule.
  Expression body(Rule rule) const { return bodies_[rule]; }
  const Node& node(Expression expression) const { return nodes_[expression]; }
  std::string_view text(const Node& node) const {
    return std::string_view(bytes_).substr(node.begin, node.count);
  }
  const CodePointRange* ranges(const Node& node) const { return ranges_.data() + node.begin; }
  const Expression* parts(const Node& node) const { return parts_.data() + node.begin; }

 private:
  static constexpr Expression kUndefined = UINT32_MAX;
  Expression add(Node node);

  std::vector<Node> nodes_;
  std::vector<Expression> parts_;
  std::vector<CodePointRange> ranges_;
  std::string bytes_;
  std::vector<std::string> names_;
  std::vector<Expression> bodies_;
};

}  // namespace redline
