// Follows a grammar's expressions as they stand, one list of things still to be matched for each way through:
// exponential, obvious, and sharing nothing with engine/constraint's automata.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"
#include "engine/utf8.h"

namespace redline {

class SlowMatcher {
 public:
  explicit SlowMatcher(const Grammar& grammar) : grammar_(&grammar) {
    ways_.insert({Todo{grammar.body(0), 0, 0, {}}});
  }

  /// Goes on by `bytes`; false, and the place unchanged, where no way through goes on.
  bool advance(std::string_view bytes) {
    std::set<Way> ways = ways_;
    for (const char byte : bytes) {
      std::set<Way> next;
      for (const Way& way : ways) take(way, byte, next);
      ways = std::move(next);
    }
    if (ways.empty()) return false;
    ways_ = std::move(ways);
    return true;
  }
  bool may_end() const {
    return std::any_of(ways_.begin(), ways_.end(), [&](const Way& way) {
      return std::all_of(way.begin(), way.end(), [&](const Todo& todo) { return nullable(todo, 0); });
    });
  }
  std::size_t num_ways() const { return ways_.size(); }

 private:
  struct Todo {
    Grammar::Expression expression;
    std::uint32_t done;   // bytes of a literal, parts of a sequence, times of a repetition
    std::uint32_t again;  // of a repetition: whether `done` counts
    std::string begun;    // bytes of a character
    auto operator<=>(const Todo&) const = default;
  };
  using Way = std::vector<Todo>;  // the last is next

  bool nullable(const Todo& todo, int depth) const {
    if (depth > 200) return false;
    const Grammar::Node& node = grammar_->node(todo.expression);
    const auto fresh = [&](Grammar::Expression part) { return nullable(Todo{part, 0, 0, {}}, depth + 1); };
    switch (node.kind) {
      case Grammar::Kind::kBytes:
        return todo.done == node.count;
      case Grammar::Kind::kSequence:
        for (std::uint32_t i = todo.done; i < node.count; ++i)
          if (!fresh(grammar_->parts(node)[i])) return false;
        return true;
      case Grammar::Kind::kChoice:
        return std::any_of(grammar_->parts(node), grammar_->parts(node) + node.count, fresh);
      case Grammar::Kind::kRepeat:
        return todo.done >= node.min || fresh(node.begin);
      case Grammar::Kind::kCall:
        return fresh(grammar_->body(node.begin));
      default:
        return false;
    }
  }

  // Adds to `next` where `way` leads by `byte`.
  void take(Way way, char byte, std::set<Way>& next) const {
    if (way.empty()) return;
    const Todo todo = way.back();
    const Grammar::Node& node = grammar_->node(todo.expression);
    way.pop_back();
    if (nullable(todo, 0)) take(way, byte, next);  // without it
    const auto with = [&](std::initializer_list<Todo> more) {
      Way longer = way;
      longer.insert(longer.end(), more);
      return longer;
    };
    switch (node.kind) {
      case Grammar::Kind::kBytes:
        if (todo.done < node.count && grammar_->text(node)[todo.done] == byte)
          next.insert(todo.done + 1 == node.count ? way : with({{todo.expression, todo.done + 1, 0, {}}}));
        return;
      case Grammar::Kind::kCharacters: {
        const std::string begun = todo.begun + byte;
        const int fits = fit(node, begun);
        if (fits == 2) next.insert(way);
        if (fits == 1) next.insert(with({{todo.expression, 0, 0, begun}}));
        return;
      }
      case Grammar::Kind::kSequence:
        if (todo.done < node.count) {
          // What is nullable before the next part that takes a byte has been dealt with part by part.
          Way longer = with({{todo.expression, todo.done + 1, 0, {}}});
          if (todo.done + 1 == node.count) longer.pop_back();
          longer.push_back({grammar_->parts(node)[todo.done], 0, 0, {}});
          take_reading(longer, byte, next);
          if (nullable(Todo{grammar_->parts(node)[todo.done], 0, 0, {}}, 0) && todo.done + 1 < node.count)
            take(with({{todo.expression, todo.done + 1, 0, {}}}), byte, next);
        }
        return;
      case Grammar::Kind::kChoice:
        for (std::uint32_t i = 0; i < node.count; ++i)
          take_reading(with({{grammar_->parts(node)[i], 0, 0, {}}}), byte, next);
        return;
      case Grammar::Kind::kRepeat:
        if (node.max == Grammar::kUnbounded || todo.done < node.max) {
          // Once the least number is reached, more need not be counted if there is no most.
          const std::uint32_t done =
              node.max == Grammar::kUnbounded ? std::min(todo.done + 1, node.min) : todo.done + 1;
          take_reading(with({{todo.expression, done, 0, {}}, {node.begin, 0, 0, {}}}), byte, next);
          if (todo.done < node.min && nullable(Todo{node.begin, 0, 0, {}}, 0))
            take_reading(with({{todo.expression, node.min, 0, {}}}), byte, next);
        }
        return;
      case Grammar::Kind::kCall:
        take_reading(with({{grammar_->body(node.begin), 0, 0, {}}}), byte, next);
        return;
      case Grammar::Kind::kToken:
        return;
    }
  }

  // take(), of the ways on which the last part takes the byte itself.
  void take_reading(Way way, char byte, std::set<Way>& next) const {
    const Todo todo = way.back();
    way.pop_back();
    std::set<Way> found;
    take(Way{todo}, byte, found);
    for (const Way& rest : found) {
      Way joined = way;
      joined.insert(joined.end(), rest.begin(), rest.end());
      next.insert(std::move(joined));
    }
  }

  // 2: `begun` is a character of the class, 1: it may become one, 0: it cannot.
  int fit(const Grammar::Node& node, const std::string& begun) const {
    const auto inside = [&](char32_t low, char32_t high) {
      for (std::uint32_t i = 0; i < node.count; ++i) {
        const CodePointRange range = grammar_->ranges(node)[i];
        if (low <= range.last && high >= range.first) return true;
      }
      return false;
    };
    const auto lead = static_cast<unsigned char>(begun[0]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    if (length == 0 || lead > 0xF4) return 0;
    if (length == 1) return inside(lead, lead) ? 2 : 0;
    char32_t low = lead & (0xFFu >> (length + 1)), high = low;
    for (std::size_t i = 1; i < length; ++i) {
      if (i < begun.size() && (static_cast<unsigned char>(begun[i]) & 0xC0) != 0x80) return 0;
      const char32_t bits = i < begun.size() ? static_cast<unsigned char>(begun[i]) & 0x3Fu : 0;
      low = low << 6 | bits;
      high = high << 6 | (i < begun.size() ? bits : 0x3Fu);
    }
    constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    low = std::max(low, kLeast[length]);
    high = std::min(high, kLastCodePoint);
    if (low > high || !inside(low, high)) return 0;
    return begun.size() == length ? 2 : 1;
  }

  const Grammar* grammar_;
  std::set<Way> ways_;
};

}  // namespace redline
