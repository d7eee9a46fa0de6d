#include "engine/constraint/automaton.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "engine/utf8.h"

namespace redline {
namespace {

constexpr std::uint32_t kInlineStates =
    48;  // a rule of finite texts is spelled out where it is used up to this size
constexpr std::uint32_t kRepeatStates =
    4096;  // a repetition that would take more calls its part as a machine
constexpr std::uint32_t kManyStates = 1u << 24;  // no bound, or none worth knowing
constexpr int kMaxInlineDepth = 64;
constexpr std::uint16_t kFirstToken = 256;  // symbols: bytes, then special tokens
constexpr std::uint32_t kNone = UINT32_MAX;

}  // namespace

// Thompson's construction with empty steps, one machine a rule; then the empty steps are taken out, what
// leads nowhere too, and bytes become classes.
class AutomatonBuilder {
 public:
  using State = Automaton::State;

  AutomatonBuilder(Automaton& built, const Grammar& grammar,
                   const std::function<std::int32_t(std::string_view)>& token_of,
                   std::chrono::steady_clock::time_point deadline)
      : built_(built), grammar_(grammar), token_of_(token_of), deadline_(deadline) {}

  void build() {
    find_nullable();
    const std::uint32_t root = machine_of(grammar_.body(0), 0);
    for (std::size_t i = 0; i < machines_.size(); ++i) {  // grows while machines call others
      const Machine machine = machines_[i];
      emit(machine.body, machine.entry, machine.exit, 0);
    }
    take_out_empty_steps();
    rank_machines();
    drop_dead_ends();
    built_.start_ = kept_[machines_[root].entry];
    built_.nullable_ = nullable(machines_[root].body);
    if (!live_[built_.start_] && !built_.nullable_) throw GrammarError("no text satisfies the grammar");
    classify();
  }

 private:
  struct Step {
    State from = 0, to = 0;
    std::uint16_t first = 0, last = 0;  // symbols
    std::uint32_t machine = kNone;      // called, instead of symbols
    bool empty = false;
  };
  struct Machine {
    Grammar::Expression body = 0;
    State entry = 0, exit = 0;
    std::string name;
  };

  void check_deadline() const {
    if (std::chrono::steady_clock::now() > deadline_)
      throw GrammarError("the grammar takes too long to compile");
  }
  [[noreturn]] static void too_large() {
    throw GrammarError("the grammar is too large: more than " + std::to_string(Automaton::kMaxStates) +
                       " states or " + std::to_string(Automaton::kMaxEdges) + " transitions");
  }

  // ---- which rules may be empty, and how large they are

  bool nullable(Grammar::Expression expression) const {
    const Grammar::Node& node = grammar_.node(expression);
    const auto part_nullable = [this](Grammar::Expression part) { return nullable(part); };
    const Grammar::Expression* parts = grammar_.parts(node);
    switch (node.kind) {
      case Grammar::Kind::kBytes:
        return node.count == 0;
      case Grammar::Kind::kCharacters:
      case Grammar::Kind::kToken:
        return false;
      case Grammar::Kind::kSequence:
        return std::all_of(parts, parts + node.count, part_nullable);
      case Grammar::Kind::kChoice:
        return std::any_of(parts, parts + node.count, part_nullable);
      case Grammar::Kind::kRepeat:
        return node.min == 0 || nullable(node.begin);
      case Grammar::Kind::kCall:
        return nullable_rules_[node.begin];
    }
    return false;
  }

  void find_nullable() {
    nullable_rules_.assign(grammar_.num_rules(), false);
    for (bool changed = true; changed;) {
      changed = false;
      check_deadline();
      for (auto rule = static_cast<Grammar::Rule>(grammar_.num_rules()); rule-- > 0;)
        if (!nullable_rules_[rule] && nullable(grammar_.body(rule))) nullable_rules_[rule] = changed = true;
    }
  }

  // About how many states it takes to spell out; kManyStates where it repeats without bound or calls itself.
  std::uint32_t size_of(Grammar::Expression expression, int depth) {
    if (depth > kMaxInlineDepth) return kManyStates;
    const Grammar::Node& node = grammar_.node(expression);
    std::uint64_t size = 1;
    switch (node.kind) {
      case Grammar::Kind::kBytes:
        return node.count;
      case Grammar::Kind::kToken:
        return 1;
      case Grammar::Kind::kCharacters:
        return node.count == 0 || grammar_.ranges(node)[node.count - 1].last < 0x80 ? 1 : 8;
      case Grammar::Kind::kSequence:
      case Grammar::Kind::kChoice:
        for (std::uint32_t i = 0; i < node.count && size < kManyStates; ++i)
          size += size_of(grammar_.parts(node)[i], depth);
        break;
      case Grammar::Kind::kRepeat:
        size = node.max == Grammar::kUnbounded
                   ? kManyStates
                   : std::uint64_t{std::max(node.max, 1u)} * (size_of(node.begin, depth) + 1);
        break;
      case Grammar::Kind::kCall:
        size += rule_size(node.begin, depth + 1);
        break;
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(size, kManyStates));
  }
  std::uint32_t rule_size(Grammar::Rule rule, int depth) {
    rule_sizes_.resize(grammar_.num_rules(), 0);
    if (rule_sizes_[rule] == 0) {
      rule_sizes_[rule] = kManyStates;  // while it is looked at: a rule that calls itself is large
      rule_sizes_[rule] = std::max(1u, size_of(grammar_.body(rule), depth));
    }
    return rule_sizes_[rule];
  }

  // ---- expressions to steps

  State new_state() {
    if (num_states_ >= Automaton::kMaxStates) too_large();
    if (num_states_ % 1024 == 0) check_deadline();
    return num_states_++;
  }
  void add_step(const Step& step) {
    if (steps_.size() >= Automaton::kMaxEdges) too_large();
    steps_.push_back(step);
  }
  void add_empty(State from, State to) { add_step({.from = from, .to = to, .empty = true}); }
  void add_bytes(State from, State to, unsigned first, unsigned last) {
    add_step({.from = from,
              .to = to,
              .first = static_cast<std::uint16_t>(first),
              .last = static_cast<std::uint16_t>(last)});
  }

  std::uint32_t machine_of(Grammar::Expression body, std::uint32_t rule) {
    const auto [found, is_new] = machine_of_.try_emplace(body, static_cast<std::uint32_t>(machines_.size()));
    if (is_new)
      machines_.push_back(
          {body, new_state(), new_state(), rule == kNone ? "a repetition" : grammar_.rule_name(rule)});
    return found->second;
  }
  void add_call(State from, State to, Grammar::Expression body, std::uint32_t rule) {
    add_step({.from = from, .to = to, .machine = machine_of(body, rule)});
    if (nullable(body)) add_empty(from, to);
  }

  void emit(Grammar::Expression expression, State from, State to, int depth) {
    const Grammar::Node& node = grammar_.node(expression);
    switch (node.kind) {
      case Grammar::Kind::kBytes:
        return emit_bytes(grammar_.text(node), from, to);
      case Grammar::Kind::kToken:
        return emit_token(grammar_.text(node), from, to);
      case Grammar::Kind::kCharacters:
        return emit_characters(node, from, to);
      case Grammar::Kind::kRepeat:
        return emit_repeat(node, from, to, depth);
      case Grammar::Kind::kChoice:
        for (std::uint32_t i = 0; i < node.count; ++i) emit(grammar_.parts(node)[i], from, to, depth);
        return;
      case Grammar::Kind::kSequence:
        for (std::uint32_t i = 0; i < node.count; ++i) {
          const State next = i + 1 == node.count ? to : new_state();
          emit(grammar_.parts(node)[i], from, next, depth);
          from = next;
        }
        if (node.count == 0) add_empty(from, to);
        return;
      case Grammar::Kind::kCall:
        if (depth < kMaxInlineDepth && rule_size(node.begin, 0) <= kInlineStates)
          return emit(grammar_.body(node.begin), from, to, depth + 1);
        return add_call(from, to, grammar_.body(node.begin), node.begin);
    }
  }

  void emit_bytes(std::string_view text, State from, State to) {
    if (text.empty()) return add_empty(from, to);
    for (std::size_t i = 0; i < text.size(); ++i) {
      const State next = i + 1 == text.size() ? to : new_state();
      const auto byte = static_cast<unsigned char>(text[i]);
      add_bytes(from, next, byte, byte);
      from = next;
    }
  }

  void emit_token(std::string_view name, State from, State to) {
    const std::int32_t token = token_of_(name);
    if (token < 0) return emit_bytes(name, from, to);
    const auto place = std::ranges::find(built_.tokens_, token) - built_.tokens_.begin();
    if (place == std::ssize(built_.tokens_)) built_.tokens_.push_back(token);
    if (place > 1000) throw GrammarError("the grammar names more than 1000 special tokens");
    const auto symbol = static_cast<unsigned>(kFirstToken + place);
    add_bytes(from, to, symbol, symbol);
  }

  void emit_repeat(const Grammar::Node& node, State from, State to, int depth) {
    const std::uint32_t times = node.max == Grammar::kUnbounded ? node.min : node.max;
    const bool called = times > 1 && std::uint64_t{times} * size_of(node.begin, 0) > kRepeatStates &&
                        grammar_.node(node.begin).kind != Grammar::Kind::kCall;
    const auto emit_part = [&](State begin, State end) {
      if (called)
        add_call(begin, end, node.begin, kNone);
      else
        emit(node.begin, begin, end, depth);
    };
    for (std::uint32_t i = 0; i < times; ++i) {
      if (i >= node.min) add_empty(from, to);
      const State next = new_state();
      emit_part(from, next);
      from = next;
    }
    if (node.max == Grammar::kUnbounded) {
      const State loop = new_state();
      add_empty(from, loop);
      emit_part(loop, loop);
      from = loop;
    }
    add_empty(from, to);
  }

  void emit_characters(const Grammar::Node& node, State from, State to) {
    State tails[4] = {to, kNone, kNone,
                      kNone};  // by number of continuation bytes still to be read, whichever
    for (std::uint32_t i = 0; i < node.count; ++i) {
      CodePointRange range = grammar_.ranges(node)[i];
      for (const char32_t limit : {0x7Fu, 0x7FFu, 0xFFFFu, 0x10FFFFu}) {  // of 1, 2, 3, 4 bytes
        if (range.first > limit || range.first > range.last) continue;
        std::string first, last;
        append_utf8(first, range.first);
        append_utf8(last, std::min(range.last, limit));
        emit_span(first, last, from, tails);
        range.first = limit + 1;
      }
    }
  }

  // The byte strings from `first` to `last`, as long as each other, that are UTF-8.
  void emit_span(std::string_view first, std::string_view last, State from, State (&tails)[4]) {
    const auto byte = [](std::string_view text) {
      return static_cast<unsigned>(static_cast<unsigned char>(text[0]));
    };
    unsigned low = byte(first), high = byte(last);
    const std::size_t num_more = first.size() - 1;
    const std::string lowest(num_more, '\x80'), highest(num_more, '\xBF');
    const auto only = [&](unsigned value, std::string_view begin, std::string_view end) {
      const State next = new_state();
      add_bytes(from, next, value, value);
      emit_span(begin, end, next, tails);
    };
    if (num_more > 0 && low == high) return only(low, first.substr(1), last.substr(1));
    if (num_more > 0 && first.substr(1) != lowest) only(low++, first.substr(1), highest);
    if (num_more > 0 && last.substr(1) != highest) only(high--, lowest, last.substr(1));
    if (low <= high) add_bytes(from, tail(tails, num_more), low, high);
  }
  State tail(State (&tails)[4], std::size_t num_more) {
    if (tails[num_more] == kNone) {
      const State next = tail(tails, num_more - 1);
      tails[num_more] = new_state();
      add_bytes(tails[num_more], next, 0x80, 0xBF);
    }
    return tails[num_more];
  }

  // ---- steps to states

  void take_out_empty_steps() {
    std::stable_sort(steps_.begin(), steps_.end(),
                     [](const Step& a, const Step& b) { return a.from < b.from; });
    std::vector<std::uint32_t> begins(num_states_ + 1, 0);
    for (const Step& step : steps_) begins[step.from + 1] += 1;
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
    std::vector<bool> is_exit(num_states_, false);
    for (const Machine& machine : machines_) is_exit[machine.exit] = true;

    kept_.assign(num_states_, kNone);
    std::vector<State> order;  // states to keep, by their new number
    const auto keep = [&](State state) {
      if (kept_[state] == kNone) {
        kept_[state] = static_cast<State>(order.size());
        order.push_back(state);
      }
      return kept_[state];
    };
    order.push_back(kNone);  // kReturn
    rows_.push_back({.accepting = true});
    for (const Machine& machine : machines_) keep(machine.entry);

    std::vector<State> seen_from(num_states_, kNone), reached;
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (i % 256 == 0) check_deadline();
      Automaton::Row row{static_cast<std::uint32_t>(built_.edges_.size()),
                         static_cast<std::uint32_t>(built_.calls_.size()), false};
      reached = {order[i]};
      seen_from[order[i]] = order[i];
      std::uint64_t num_steps = 0;
      for (std::size_t j = 0; j < reached.size(); ++j) {
        row.accepting = row.accepting || is_exit[reached[j]];
        for (std::uint32_t k = begins[reached[j]]; k < begins[reached[j] + 1]; ++k) {
          const Step& step = steps_[k];
          num_steps += 1;
          if (step.empty) {
            if (std::exchange(seen_from[step.to], order[i]) != order[i]) reached.push_back(step.to);
          } else if (step.machine != kNone) {
            built_.calls_.push_back({step.machine, target_of(step.to, begins, is_exit, keep), 0});
          } else {
            built_.edges_.push_back({step.first, step.last, target_of(step.to, begins, is_exit, keep)});
          }
        }
      }
      if ((work_ += num_steps) > 8 * Automaton::kMaxEdges) too_large();
      join_edges(row);
      if (built_.edges_.size() + built_.calls_.size() > Automaton::kMaxEdges) too_large();
      rows_.push_back(row);
    }
    rows_.push_back({static_cast<std::uint32_t>(built_.edges_.size()),
                     static_cast<std::uint32_t>(built_.calls_.size()), false});
    for (Automaton::Call& call : built_.calls_) call.rank = call.entry;  // the machine, until it is ranked
    for (const Machine& machine : machines_) entries_.push_back(kept_[machine.entry]);
    // No empty text comes out of a call: an empty step beside it stands for that. Nothing leads back to an
    // entry.
    for (const State entry : entries_) rows_[entry].accepting = false;
  }

  template <typename Keep>
  State target_of(State state, const std::vector<std::uint32_t>& begins, const std::vector<bool>& is_exit,
                  Keep keep) {
    return is_exit[state] && begins[state] == begins[state + 1] ? Automaton::kReturn : keep(state);
  }

  // Edges and calls of the last state, each once, ranges joined where they touch.
  void join_edges(const Automaton::Row& row) {
    auto& edges = built_.edges_;
    const auto begin = edges.begin() + row.edges;
    std::sort(begin, edges.end(), [](const Automaton::Edge& a, const Automaton::Edge& b) {
      return std::tie(a.target, a.first, a.last) < std::tie(b.target, b.first, b.last);
    });
    auto end = begin;
    for (auto edge = begin; edge != edges.end(); ++edge) {
      // Special tokens are no neighbours of the last byte.
      if (end != begin && end[-1].target == edge->target && edge->first <= end[-1].last + 1 &&
          edge->first != kFirstToken)
        end[-1].last = std::max(end[-1].last, edge->last);
      else
        *end++ = *edge;
    }
    edges.erase(end, edges.end());
    auto& calls = built_.calls_;
    const auto key = [](const Automaton::Call& call) { return std::pair(call.entry, call.target); };
    std::ranges::sort(calls.begin() + row.calls, calls.end(), {}, key);
    calls.erase(std::unique(calls.begin() + row.calls, calls.end(),
                            [&](const auto& a, const auto& b) { return key(a) == key(b); }),
                calls.end());
  }

  // Orders machines so that what one calls before it reads anything comes after it.
  void rank_machines() {
    const auto num = static_cast<std::uint32_t>(machines_.size());
    enum : std::uint8_t { kNew, kOpen, kDone };
    std::vector<std::uint8_t> status(num, kNew);
    std::vector<std::uint32_t> ranks(num, 0);
    std::uint32_t next_rank = num;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> path;  // a machine, and its call to follow next
    for (std::uint32_t root = 0; root < num; ++root) {
      if (status[root] != kNew) continue;
      path.emplace_back(root, rows_[entries_[root]].calls);
      status[root] = kOpen;
      while (!path.empty()) {
        auto& [machine, place] = path.back();
        if (place == rows_[entries_[machine] + 1].calls) {
          status[machine] = kDone;
          ranks[machine] = --next_rank;
          path.pop_back();
          continue;
        }
        const std::uint32_t called = built_.calls_[place++].rank;
        if (status[called] == kOpen) refuse_left_recursion(path, called);
        if (status[called] == kNew) {
          status[called] = kOpen;
          path.emplace_back(called, rows_[entries_[called]].calls);
        }
      }
    }
    for (Automaton::Call& call : built_.calls_) call = {entries_[call.rank], call.target, ranks[call.rank]};
  }

  [[noreturn]] void refuse_left_recursion(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& path,
                                          std::uint32_t called) const {
    auto from = std::ranges::find(path, called, [](const auto& step) { return step.first; });
    std::string cycle;
    for (int shown = 0; from != path.end() && shown < 8; ++from, ++shown)
      cycle += machines_[from->first].name.substr(0, 60) + " -> ";
    throw GrammarError("left recursion: " + cycle + machines_[called].name.substr(0, 60));
  }

  // Which states some text leads from to the end of their rule; edges to others go.
  void drop_dead_ends() {
    const std::size_t num = rows_.size() - 1;
    auto& edges = built_.edges_;
    auto& calls = built_.calls_;
    std::vector<std::vector<State>> edge_sources(num);
    std::vector<std::vector<std::uint32_t>> waiting(num);  // calls that need the state to be live
    std::vector<State> caller(calls.size());
    std::vector<std::uint8_t> missing(calls.size(), 2);
    for (State state = 0; state < num; ++state) {
      for (std::uint32_t e = rows_[state].edges; e < rows_[state + 1].edges; ++e)
        edge_sources[edges[e].target].push_back(state);
      for (std::uint32_t c = rows_[state].calls; c < rows_[state + 1].calls; ++c) {
        caller[c] = state;
        waiting[calls[c].entry].push_back(c);
        waiting[calls[c].target].push_back(c);
      }
    }
    live_.assign(num, false);
    std::vector<State> found;
    const auto mark = [&](State state) {
      if (!live_[state]) found.push_back(state);
      live_[state] = true;
    };
    for (State state = 0; state < num; ++state)
      if (rows_[state].accepting) mark(state);
    while (!found.empty()) {
      const State state = found.back();
      found.pop_back();
      for (const State source : edge_sources[state]) mark(source);
      for (const std::uint32_t c : waiting[state])
        if (--missing[c] == 0) mark(caller[c]);
    }
    std::uint32_t num_edges = 0, num_calls = 0;
    for (State state = 0; state < num; ++state) {
      const Automaton::Row row = rows_[state];
      rows_[state].edges = num_edges, rows_[state].calls = num_calls;
      for (std::uint32_t e = row.edges; e < rows_[state + 1].edges; ++e)
        if (live_[edges[e].target]) edges[num_edges++] = edges[e];
      for (std::uint32_t c = row.calls; c < rows_[state + 1].calls; ++c)
        if (live_[calls[c].target] && live_[calls[c].entry]) calls[num_calls++] = calls[c];
    }
    rows_.back() = {num_edges, num_calls, false};
    edges.resize(num_edges), calls.resize(num_calls);
    edges.shrink_to_fit(), calls.shrink_to_fit();
  }

  void classify() {
    std::array<bool, kFirstToken + 1> begins{};
    for (const Automaton::Edge& edge : built_.edges_)
      if (edge.first < kFirstToken) begins[edge.first] = begins[edge.last + 1u] = true;
    SymbolClass next = 0;
    for (std::size_t byte = 0; byte < kFirstToken; ++byte) {
      if (begins[byte] && byte > 0) ++next;
      built_.byte_classes_[byte] = next;
    }
    built_.num_byte_classes_ = next + 1u;
    const auto class_of = [&](std::uint16_t symbol) {
      return symbol < kFirstToken ? built_.byte_classes_[symbol] : built_.token_class(symbol - kFirstToken);
    };
    for (Automaton::Edge& edge : built_.edges_)
      edge.first = class_of(edge.first), edge.last = class_of(edge.last);
    built_.states_ = std::move(rows_);
  }

  Automaton& built_;
  const Grammar& grammar_;
  const std::function<std::int32_t(std::string_view)>& token_of_;
  const std::chrono::steady_clock::time_point deadline_;

  std::vector<bool> nullable_rules_;
  std::vector<std::uint32_t> rule_sizes_;  // 0: not known yet
  std::vector<Machine> machines_;
  std::map<Grammar::Expression, std::uint32_t> machine_of_;  // by body
  std::vector<Step> steps_;
  State num_states_ = 0;
  std::uint64_t work_ = 0;
  std::vector<State> kept_;     // new numbers of states that are not only passed through
  std::vector<State> entries_;  // by machine
  std::vector<Automaton::Row> rows_;
  std::vector<bool> live_;
};

Automaton::Automaton(const Grammar& grammar, const std::function<std::int32_t(std::string_view)>& token_of,
                     std::chrono::steady_clock::time_point deadline) {
  AutomatonBuilder(*this, grammar, token_of, deadline).build();
}

std::size_t Automaton::num_bytes() const {
  return states_.capacity() * sizeof(Row) + edges_.capacity() * sizeof(Edge) +
         calls_.capacity() * sizeof(Call);
}

}  // namespace redline
