// A grammar as machines over bytes, one for each rule that is not spelled out where it is used.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"

namespace redline {

/// What one step of an automaton reads: a byte, or a special token as a whole. Bytes that the grammar never
/// tells apart share a class, and each special token that it names has one of its own, so that a table of
/// transitions has a column for each class only.
using SymbolClass = std::uint16_t;

/// A recursive transition network without empty steps. Each state's way on leads by a class of bytes to a
/// state, or through the machine of another rule to a state; from every state some text leads to the end.
/// Immutable.
class Automaton {
 public:
  using State = std::uint32_t;
  /// The end of a rule from which nothing else leads on: returning is all that is left.
  static constexpr State kReturn = 0;
  static constexpr std::size_t kMaxStates = 1u << 18, kMaxEdges = 1u << 21;

  struct Edge {
    SymbolClass first = 0, last = 0;  // both included
    State target = 0;
  };
  struct Call {
    State entry = 0;         // of the rule that is called; reads at least one byte before it returns
    State target = 0;        // where its caller goes on
    std::uint32_t rank = 0;  // of the entry: what it calls before reading a byte ranks higher
  };

  /// `token_of(name)`: the special token of that name, or -1. Throws GrammarError for left recursion, a
  /// grammar that no text satisfies, one too large, and after `deadline`.
  Automaton(const Grammar& grammar, const std::function<std::int32_t(std::string_view)>& token_of,
            std::chrono::steady_clock::time_point deadline);

  State start() const { return start_; }
  /// Whether the empty text satisfies the grammar.
  bool nullable() const { return nullable_; }
  bool accepting(State state) const { return states_[state].accepting; }
  std::span<const Edge> edges(State state) const {
    return std::span(edges_).subspan(states_[state].edges, states_[state + 1].edges - states_[state].edges);
  }
  std::span<const Call> calls(State state) const {
    return std::span(calls_).subspan(states_[state].calls, states_[state + 1].calls - states_[state].calls);
  }
  std::size_t num_states() const { return states_.size() - 1; }
  std::size_t num_classes() const { return num_byte_classes_ + tokens_.size(); }
  SymbolClass class_of(unsigned char byte) const { return byte_classes_[byte]; }
  /// Special tokens that the grammar names; the class of the i-th.
  std::span<const std::int32_t> tokens() const { return tokens_; }
  SymbolClass token_class(std::size_t i) const { return static_cast<SymbolClass>(num_byte_classes_ + i); }
  std::size_t num_bytes() const;

 private:
  friend class AutomatonBuilder;
  struct Row {
    std::uint32_t edges = 0, calls = 0;  // where its own begin
    bool accepting = false;
  };
  std::vector<Row> states_;  // and one after the last
  std::vector<Edge> edges_;
  std::vector<Call> calls_;
  std::array<SymbolClass, 256> byte_classes_{};
  std::size_t num_byte_classes_ = 0;
  std::vector<std::int32_t> tokens_;
  State start_ = 0;
  bool nullable_ = false;
};

}  // namespace redline
