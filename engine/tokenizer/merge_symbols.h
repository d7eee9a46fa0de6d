// The heart of BPE: neighbours merge, best first, until none can.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// A stretch of a piece, begin to end in whatever unit counts.
struct Symbol {
  TokenId id;
  std::int32_t begin, end;
};

struct Merge {
  double rank;  // the lowest first
  TokenId id;
};

/// Merges adjacent `symbols`, the lowest rank next, the leftmost of equals; find(left, right) gives what two
/// symbols make, if anything. What is left stays in `symbols`. n log n: a linked list of symbols and a heap
/// of candidate pairs; candidates that an earlier merge made stale are skipped when they surface.
template <typename Find>
void merge_symbols(std::vector<Symbol>& symbols, Find find) {
  struct Links {
    std::int32_t previous, next;  // -1: none
  };
  struct Candidate {
    double rank;
    std::int32_t at, middle, end;
    TokenId merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const auto count = static_cast<std::int32_t>(symbols.size());
  std::vector<Links> links;
  links.reserve(symbols.size());
  for (std::int32_t i = 0; i < count; ++i) links.push_back({i - 1, i + 1 < count ? i + 1 : -1});
  const auto symbol = [&](std::int32_t i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto link = [&](std::int32_t i) -> Links& { return links[static_cast<std::size_t>(i)]; };

  std::vector<Candidate> found;
  const auto consider = [&](std::int32_t at, auto push) {
    if (link(at).next < 0) return;
    const Symbol &left = symbol(at), &right = symbol(link(at).next);
    if (const std::optional<Merge> merge = find(left, right))
      push(Candidate{merge->rank, at, left.end, right.end, merge->id});
  };
  for (std::int32_t i = 0; i + 1 < count; ++i)
    consider(i, [&](const Candidate& candidate) { found.push_back(candidate); });
  std::priority_queue<Candidate> candidates(std::less<Candidate>(), std::move(found));
  const auto push = [&](const Candidate& candidate) { candidates.push(candidate); };
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbol(best.at);
    const std::int32_t next = link(best.at).next;
    if (left.end != best.middle || next < 0 || symbol(next).end != best.end) continue;
    left.id = best.merged;
    left.end = best.end;
    symbol(next).end = symbol(next).begin;  // no candidate has it any more
    link(best.at).next = link(next).next;
    if (link(next).next >= 0) link(link(next).next).previous = best.at;
    if (link(best.at).previous >= 0) consider(link(best.at).previous, push);
    consider(best.at, push);
  }
  std::size_t kept = 0;
  for (std::int32_t i = count > 0 ? 0 : -1; i >= 0; i = link(i).next) symbols[kept++] = symbol(i);
  symbols.resize(kept);
}

}  // namespace redline
