#include "engine/constraint/pushdown.h"

#include <algorithm>
#include <utility>

namespace redline {

std::size_t Pushdown::Hash::operator()(std::span<const Item> items) const {
  std::uint64_t hash = items.size();
  for (const Item& item : items) {
    hash ^= (std::uint64_t{item.top} << 32) | item.rest;
    hash *= 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
  }
  return hash;
}

bool Pushdown::Equal::operator()(std::span<const Item> items, Set set) const {
  return std::ranges::equal(items, owner->items(set));
}

Pushdown::Pushdown(std::shared_ptr<const Automaton> automaton)
    : automaton_(std::move(automaton)), known_(64, Hash{this}, Equal{this}) {
  set_work_limit(UINT64_MAX / 2);
  intern({});  // kNone
  const Item bottom{kBottom, kNone};
  intern(std::span(&bottom, 1));  // kEmpty
  closed_[kNone] = kNone, closed_[kEmpty] = kEmpty;
  start_ = closed(push(automaton_->start(), kEmpty));
  if (automaton_->nullable()) start_ = merge(kEmpty, start_);
}

void Pushdown::count_work(std::uint64_t num_items) {
  if ((work_ += num_items) > work_limit_)
    throw ConstraintError("the grammar is too ambiguous: too many ways through it lead here");
}

Pushdown::Set Pushdown::intern(std::span<const Item> items) {
  const auto found = known_.find(items);
  if (found != known_.end()) return *found;
  const auto set = static_cast<Set>(spans_.size());
  Span span{static_cast<std::uint32_t>(items_.size()), static_cast<std::uint32_t>(items.size()), 0};
  for (const Item& item : items) span.depth = std::max(span.depth, spans_[item.rest].depth + 1);
  const std::vector<Item> copy(items.begin(), items.end());  // they may lie in items_
  items_.insert(items_.end(), copy.begin(), copy.end());
  spans_.push_back(span);
  closed_.push_back(kUnknown);
  rows_of_.push_back(kNoRow);
  known_.insert(set);
  return set;
}

Pushdown::Set Pushdown::push(Automaton::State top, Set rest) {
  if (top == Automaton::kReturn) return rest;
  if (rest == kNone || spans_[rest].depth >= kMaxDepth) return kNone;
  const Item item{top, rest};
  return intern(std::span(&item, 1));
}

// Sorts, joins items with the same top, and interns. Stacks with the same top are one item: what lies below
// them, in any of them, lies below it.
Pushdown::Set Pushdown::intern_merged(std::vector<Item>& items) {
  std::ranges::sort(items);
  std::size_t num = 0;
  for (const Item& item : items) {
    if (item.rest == kNone && item.top != kBottom) continue;
    if (num > 0 && items[num - 1].top == item.top)
      items[num - 1].rest = merge(items[num - 1].rest, item.rest);
    else
      items[num++] = item;
  }
  items.resize(num);
  count_work(num);
  return intern(items);
}

Pushdown::Set Pushdown::merge(Set a, Set b) {
  if (a == b || b == kNone) return a;
  if (a == kNone) return b;
  if (a > b) std::swap(a, b);
  const std::uint64_t key = (std::uint64_t{a} << 32) | b;
  if (const auto found = merged_.find(key); found != merged_.end()) return found->second;
  std::vector<Item> joined(items(a).begin(), items(a).end());
  joined.insert(joined.end(), items(b).begin(), items(b).end());
  return merged_[key] = intern_merged(joined);
}

// One way on: what it reads next stays, what it calls is to be entered.
void Pushdown::enter(Item item, std::vector<Item>& reading,
                     std::vector<std::pair<std::uint32_t, Item>>& entered) {
  if (item.top == kBottom) {
    reading.push_back(item);
    return;
  }
  if (!automaton_->edges(item.top).empty()) reading.push_back(item);
  for (const Automaton::Call& call : automaton_->calls(item.top)) {
    entered.emplace_back(call.rank, Item{call.entry, push(call.target, item.rest)});
    std::ranges::push_heap(entered, std::ranges::greater{});
  }
  if (automaton_->accepting(item.top)) {
    const auto returned = items(closed(item.rest));
    reading.insert(reading.end(), returned.begin(), returned.end());
  }
  count_work(1 + automaton_->calls(item.top).size());
}

Pushdown::Set Pushdown::closed(Set set) {
  if (closed_[set] != kUnknown) return closed_[set];
  std::vector<Item> reading;
  std::vector<std::pair<std::uint32_t, Item>> entered;  // a heap, lowest rank on top
  const std::vector<Item> own(items(set).begin(), items(set).end());
  for (const Item& item : own) enter(item, reading, entered);
  // Callers come before what they call, so that each rule is entered once, with all of its callers' stacks.
  while (!entered.empty()) {
    Item item = entered.front().second;
    std::vector<Item> same;
    while (!entered.empty() && entered.front().second.top == item.top) {
      same.push_back(entered.front().second);
      std::ranges::pop_heap(entered, std::ranges::greater{});
      entered.pop_back();
    }
    for (const Item& other : same) item.rest = merge(item.rest, other.rest);
    if (item.rest != kNone) enter(item, reading, entered);
  }
  return closed_[set] = intern_merged(reading);
}

void Pushdown::expand(Set set) {
  const std::size_t num_classes = automaton_->num_classes();
  std::vector<std::vector<Item>> targets(num_classes);
  const std::vector<Item> own(items(set).begin(), items(set).end());
  for (const Item& item : own) {
    if (item.top == kBottom) continue;
    for (const Automaton::Edge& edge : automaton_->edges(item.top)) {
      count_work(1);
      for (std::size_t symbol = edge.first; symbol <= edge.last; ++symbol) {
        if (edge.target != Automaton::kReturn) {
          targets[symbol].push_back({edge.target, item.rest});
        } else {
          const auto returned = items(item.rest);
          count_work(returned.size());
          targets[symbol].insert(targets[symbol].end(), returned.begin(), returned.end());
        }
      }
    }
  }
  std::vector<Set> row(num_classes, kNone);
  std::vector<Item> last;  // neighbouring classes often lead to the same
  Set last_set = kNone;
  for (std::size_t symbol = 0; symbol < num_classes; ++symbol) {
    if (targets[symbol].empty()) continue;
    if (targets[symbol] != last) {
      last = targets[symbol];
      last_set = closed(intern_merged(targets[symbol]));
    }
    row[symbol] = last_set;
  }
  rows_of_[set] = static_cast<std::uint32_t>(rows_.size());
  rows_.insert(rows_.end(), row.begin(), row.end());
}

Pushdown::Set Pushdown::import(const Pushdown& other, Set set) {
  std::unordered_map<Set, Set> known = {{kNone, kNone}, {kEmpty, kEmpty}};
  const auto copy = [&](auto self, Set from) -> Set {
    if (const auto found = known.find(from); found != known.end()) return found->second;
    std::vector<Item> items;
    for (const Item& item : other.items(from)) items.push_back({item.top, self(self, item.rest)});
    std::ranges::sort(items);
    return known[from] = intern(items);
  };
  return copy(copy, set);
}

std::size_t Pushdown::num_bytes() const {
  constexpr std::size_t kPerHashed = 48;
  return items_.size() * sizeof(Item) + spans_.size() * (sizeof(Span) + 2 * sizeof(Set) + kPerHashed) +
         rows_.size() * sizeof(Set) + merged_.size() * kPerHashed;
}

}  // namespace redline
