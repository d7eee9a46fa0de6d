#include "engine/constraint/grammar.h"

#include <algorithm>
#include <utility>

namespace redline {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;

void require(bool fits, const char* what, std::size_t most) {
  if (!fits)
    throw GrammarError(std::string("the grammar is too large: more than ") + std::to_string(most) + what);
}

}  // namespace

std::vector<CodePointRange> normalized(std::vector<CodePointRange> ranges) {
  std::vector<CodePointRange> scalar;
  for (const CodePointRange& range : ranges) {
    const char32_t last = std::min(range.last, kLastCodePoint);
    if (range.first < kFirstSurrogate)
      scalar.push_back({range.first, std::min<char32_t>(last, kFirstSurrogate - 1)});
    if (last > kLastSurrogate) scalar.push_back({std::max<char32_t>(range.first, kLastSurrogate + 1), last});
  }
  std::erase_if(scalar, [](const CodePointRange& range) { return range.first > range.last; });
  std::ranges::sort(scalar, {}, &CodePointRange::first);
  std::vector<CodePointRange> joined;
  for (const CodePointRange& range : scalar) {
    if (!joined.empty() && range.first <= joined.back().last + 1)
      joined.back().last = std::max(joined.back().last, range.last);
    else
      joined.push_back(range);
  }
  return joined;
}

std::vector<CodePointRange> complement(std::vector<CodePointRange> ranges) {
  std::vector<CodePointRange> others;
  char32_t next = 0;
  for (const CodePointRange& range : normalized(std::move(ranges))) {
    if (range.first > next) others.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) others.push_back({next, kLastCodePoint});
  return normalized(std::move(others));
}

Grammar::Expression Grammar::add(Node node) {
  require(nodes_.size() < kMaxExpressions, " expressions", kMaxExpressions);
  require(parts_.size() <= kMaxExpressions, " parts", kMaxExpressions);
  require(ranges_.size() <= kMaxExpressions, " character ranges", kMaxExpressions);
  require(bytes_.size() <= kMaxBytes, " bytes of text", kMaxBytes);
  if (node.depth > kMaxDepth)
    throw GrammarError("the grammar nests deeper than " + std::to_string(kMaxDepth));
  nodes_.push_back(node);
  return static_cast<Expression>(nodes_.size() - 1);
}

Grammar::Expression Grammar::bytes(std::string_view text) {
  const Node node{.begin = static_cast<std::uint32_t>(bytes_.size()),
                  .count = static_cast<std::uint32_t>(text.size())};
  require(text.size() <= kMaxBytes, " bytes of text", kMaxBytes);
  bytes_ += text;
  return add(node);
}

Grammar::Expression Grammar::token(std::string_view name) {
  const Expression expression = bytes(name);
  nodes_[expression].kind = Kind::kToken;
  return expression;
}

Grammar::Expression Grammar::characters(std::vector<CodePointRange> ranges) {
  ranges = normalized(std::move(ranges));
  const Node node{.kind = Kind::kCharacters,
                  .begin = static_cast<std::uint32_t>(ranges_.size()),
                  .count = static_cast<std::uint32_t>(ranges.size())};
  ranges_.insert(ranges_.end(), ranges.begin(), ranges.end());
  return add(node);
}

Grammar::Expression Grammar::sequence(std::vector<Expression> parts) {
  if (parts.size() == 1) return parts.front();
  Node node{.kind = Kind::kSequence,
            .begin = static_cast<std::uint32_t>(parts_.size()),
            .count = static_cast<std::uint32_t>(parts.size())};
  for (const Expression part : parts) node.depth = std::max(node.depth, nodes_[part].depth + 1);
  parts_.insert(parts_.end(), parts.begin(), parts.end());
  return add(node);
}

Grammar::Expression Grammar::choice(std::vector<Expression> parts) {
  const Expression expression = sequence(parts);
  if (parts.size() != 1) nodes_[expression].kind = Kind::kChoice;
  return expression;
}

Grammar::Expression Grammar::repeat(Expression part, std::uint32_t min, std::uint32_t max) {
  if (min > max)
    throw GrammarError("a repetition of at least " + std::to_string(min) + " and at most " +
                       std::to_string(max) + " times is none");
  if (min > kMaxRepeat || (max != kUnbounded && max > kMaxRepeat))
    throw GrammarError("a repetition of " + std::to_string(max == kUnbounded ? min : max) +
                       " times is more than " + std::to_string(kMaxRepeat));
  return add({.kind = Kind::kRepeat, .depth = nodes_[part].depth + 1, .begin = part, .min = min, .max = max});
}

Grammar::Expression Grammar::call(Rule rule) { return add({.kind = Kind::kCall, .begin = rule}); }

Grammar::Rule Grammar::add_rule(std::string name) {
  require(bodies_.size() < kMaxRules, " rules", kMaxRules);
  names_.push_back(std::move(name));
  bodies_.push_back(kUndefined);
  return static_cast<Rule>(bodies_.size() - 1);
}

void Grammar::define(Rule rule, Expression body) { bodies_[rule] = body; }

}  // namespace redline
