// What one step computes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/batch.h"
#include "scheduler/sequence.h"
#include "scheduler/step_budget.h"

namespace redline {

/// The tokens at positions [num_computed_tokens, num_computed_tokens + num_tokens) of a sequence, whose
/// blocks are in place.
struct ScheduledSequence {
  Sequence* sequence = nullptr;
  std::int32_t num_tokens = 0;
  std::int32_t num_recomputed = 0;  // the leading ones, which were in the cache before a preemption
  bool needs_logits = false;        // the last of them is the last known token: sample after it
  bool is_decode = false;           // a single generated token, computed for the first time
  bool needs_all_logits = false;    // those of a prompt: of every token but the recomputed ones
};

/// Sequences that decode come first. Pointers stay valid until the scheduler plans the next step, also if the
/// sequence finishes or is aborted before.
struct StepPlan {
  std::vector<ScheduledSequence> sequences;
  std::vector<BlockCopy> block_copies;  // in order, before the step's first write
  std::vector<Sequence*> preempted;     // lost their blocks, wait again
  StepLoad load;                        // the sums of `sequences`
  std::int32_t num_prompt_logits = 0;   // tokens of chunks that need all logits, single ones left out

  bool empty() const { return sequences.empty(); }
  std::int32_t num_tokens() const {
    std::int32_t sum = 0;
    for (const ScheduledSequence& scheduled : sequences) sum += scheduled.num_tokens;
    return sum;
  }
};

}  // namespace redline
