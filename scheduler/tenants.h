// Whose sequences run and wait, what each tenant holds and has been served, and so whose turn it is.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "scheduler/sequence.h"

namespace redline {

/// By rank, then by serial.
struct InOrder {
  bool operator()(const Sequence* a, const Sequence* b) const {
    return a->rank != b->rank ? a->rank < b->rank : a->serial < b->serial;
  }
};
using SequenceQueue = std::set<Sequence*, InOrder>;

/// The scheduler's account of one tenant.
struct Tenant {
  SequenceQueue running, waiting;
  std::int32_t num_blocks = 0;   // referenced by its sequences; each belongs to one tenant
  std::int32_t most_blocks = 0;  // that it may hold
  std::int64_t virtual_tokens = 0;

  bool backlogged = false;  // at the end of a step: it had work that found no place for others' sake

  // Of the step being planned.
  std::vector<Sequence*> prompts;  // that run and are not yet computed, in order
  std::size_t num_planned_prompts = 0;
  bool is_cut = false;   // the budget's end cut one of its chunks
  bool is_held = false;  // by its own limit: it admits nothing

  bool has_prompt() const { return num_planned_prompts < prompts.size(); }
};

/// Fair sharing by virtual time. A tenant's virtual tokens grow by those computed for it, and where several
/// have work the one with the fewest goes first. A tenant that has all it asks for is lifted to the clock,
/// the least of those that have not: so nobody saves up credit while idle or asking for little, and nobody
/// pays for what it used while others did not want it.
class Tenants {
 public:
  using Map = std::map<std::string, Tenant>;

  /// The tenant's account, made where there is none.
  Tenant& of(const std::string& name, std::int32_t most_blocks);
  /// Lifts whoever was not kept waiting, and collects the prompts that run.
  void begin_step();
  /// Of the tenants with a prompt to go on with, or with one to admit if `admits`, the least served; of
  /// several the one whose sequence stands first. Null if there is none.
  Tenant* next(bool admits);
  /// Notes who has been kept waiting, sets the clock, and forgets who has no sequence and no debt.
  void end_step();

  /// By name.
  Map& all() { return all_; }
  const Map& all() const { return all_; }

 private:
  Map all_;
  std::int64_t clock_ = 0;  // in virtual tokens; never goes back
};

}  // namespace redline
