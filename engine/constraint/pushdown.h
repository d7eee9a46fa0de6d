// Where a text stands in a grammar: sets of stacks, each known by a number.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/constraint/automaton.h"

namespace redline {

/// A request's grammar cannot go on: too ambiguous, or no token fits. The request's fault, not the engine's.
struct ConstraintError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs an automaton on bytes, all ways through the grammar at once. A set of stacks is a map from a top
/// state to the set of stacks below it; sets are interned, so that equal ones are one number, ambiguity costs
/// what it differs in, and each step from a set is computed once. Not thread-safe.
class Pushdown {
 public:
  using Set = std::uint32_t;
  /// No stack: the text is no beginning of any in the grammar.
  static constexpr Set kNone = 0;
  /// The empty stack alone: the text is complete, and nothing may follow.
  static constexpr Set kEmpty = 1;
  /// Deeper nesting is not allowed to begin.
  static constexpr std::uint32_t kMaxDepth = 500;
  /// Stands for the empty stack as a top; sorts before every state.
  static constexpr Automaton::State kBottom = 0;

  struct Item {
    Automaton::State top = 0;
    Set rest = kNone;
    bool operator==(const Item&) const = default;
    auto operator<=>(const Item&) const = default;
  };

  explicit Pushdown(std::shared_ptr<const Automaton> automaton);
  Pushdown(const Pushdown&) = delete;

  /// The set before the first byte. Like all that step() returns it is closed: each top reads a symbol next,
  /// or is kBottom, which says that the text may end here.
  Set start() const { return start_; }
  Set step(Set set, SymbolClass symbol) { return row(set)[symbol]; }
  /// step() of every class; valid until the next call.
  const Set* row(Set set) {
    if (rows_of_[set] == kNoRow) expand(set);
    return rows_.data() + rows_of_[set];
  }
  bool may_end(Set set) const { return !items(set).empty() && items(set).front().top == kBottom; }
  /// By top, one each.
  std::span<const Item> items(Set set) const {
    return std::span(items_).subspan(spans_[set].begin, spans_[set].count);
  }
  /// The set of these items: `items` sorted by top, tops different.
  Set intern(std::span<const Item> items);
  /// The same set where calls have been entered and finished rules returned from.
  Set closed(Set set);
  /// `set` of `other`, which runs the same automaton.
  Set import(const Pushdown& other, Set set);

  const Automaton& automaton() const { return *automaton_; }
  std::size_t num_bytes() const;
  std::size_t num_sets() const { return spans_.size(); }
  /// From here on `limit` items may be looked at before ConstraintError says that the grammar is too
  /// ambiguous.
  void set_work_limit(std::uint64_t limit) { work_limit_ = work_ + limit; }

 private:
  static constexpr std::uint32_t kNoRow = UINT32_MAX, kUnknown = UINT32_MAX;
  struct Span {
    std::uint32_t begin = 0, count = 0, depth = 0;
  };
  struct Hash {
    using is_transparent = void;
    const Pushdown* owner;
    std::size_t operator()(std::span<const Item> items) const;
    std::size_t operator()(Set set) const { return (*this)(owner->items(set)); }
  };
  struct Equal {
    using is_transparent = void;
    const Pushdown* owner;
    bool operator()(Set a, Set b) const { return a == b; }
    bool operator()(std::span<const Item> items, Set set) const;
    bool operator()(Set set, std::span<const Item> items) const { return (*this)(items, set); }
  };

  void expand(Set set);
  Set push(Automaton::State top, Set rest);
  Set merge(Set a, Set b);
  Set intern_merged(std::vector<Item>& items);
  void enter(Item item, std::vector<Item>& reading, std::vector<std::pair<std::uint32_t, Item>>& entered);
  void count_work(std::uint64_t items);

  std::shared_ptr<const Automaton> automaton_;
  std::vector<Item> items_;
  std::vector<Span> spans_;             // by set
  std::vector<Set> closed_;             // by set
  std::vector<std::uint32_t> rows_of_;  // by set: where its row begins in rows_
  std::vector<Set> rows_;
  std::unordered_set<Set, Hash, Equal> known_;
  std::unordered_map<std::uint64_t, Set> merged_;  // by two sets
  std::uint64_t work_ = 0, work_limit_ = 0;
  Set start_ = kNone;
};

}  // namespace redline
