// A seeded world around the production scheduler and cache: random requests, faults, and a shadow memory in
// which every slot holds a digest of the whole prefix that its token was computed after.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace redline {

/// What a run did, so that a test can tell that it was no idle one.
struct SimulationTally {
  std::int64_t steps = 0, tokens = 0, recomputed_tokens = 0, hit_tokens = 0, preemptions = 0,
               block_copies = 0, freed_blocks = 0,
               steps_at_limit = 0;  // times a tenant, limited, held all its blocks
  std::int64_t completed = 0, aborted = 0, failed = 0, rejected = 0, forks = 0;
  std::uint64_t trace = 0;  // digest of every plan
  SimulationTally& operator+=(const SimulationTally& other);
};

/// One world. `run` throws std::runtime_error at the first broken promise:
/// - what a step reads for a sequence is that sequence's own prefix and salt, at every position;
/// - a step writes only blocks that its sequence holds alone and the prefix cache does not know;
/// - blocks, references, queues and seats are conserved;
/// - a plan keeps its limits, and a tenant its share of the blocks;
/// - admission keeps a tenant's order, and who stands first of all that run is never preempted;
/// - every step makes progress for all who run, as far as its budget goes, and everything ends within a
///   bounded number of steps;
/// - every request ends once, with the tokens that it would have had alone;
/// - tokens said to be recomputed are those that were in the cache before.
class Simulation {
 public:
  explicit Simulation(std::uint64_t seed);
  SimulationTally run();

 private:
  struct Random {  // splitmix64: the same everywhere
    std::uint64_t state;
    std::uint64_t next();
    std::int32_t below(std::int32_t n) {
      return static_cast<std::int32_t>(next() % static_cast<unsigned>(n));
    }
    std::int32_t between(std::int32_t low, std::int32_t high) { return low + below(high - low + 1); }
    bool chance(std::int32_t percent) { return below(100) < percent; }
  };
  /// One of a request's n answers, as the outside world knows it.
  struct Answer {
    std::int64_t arrival = 0;  // of the request
    std::int32_t priority = 0;
    std::int32_t branch = 0;  // which of the n
    std::int32_t n = 1;
    std::int32_t num_prompt_tokens = 0, max_num_tokens = 0;
    std::string tenant, salt;
    std::vector<std::int32_t> tokens;
    std::vector<std::uint64_t> digests = {};  // of each prefix of tokens, salted
    std::int32_t num_ever_in_cache = 0;
    std::int32_t num_useful = 0,
                 num_gained = 0;  // tokens computed for the first time; tokens found or inherited
    std::int32_t num_prompt_logits = 0;
    bool poisoned = false;  // some of its K and V in the cache are not finite
    bool waiting = true;
    bool forks_made = false;
    Sequence* sequence = nullptr;
  };
  struct Arrival {
    std::int64_t step = 0;
    SequenceSpec spec;
  };

  void plan_arrivals();
  void submit(SequenceSpec spec);
  void abort_some();
  void hold_some_blocks();
  void check_plan(const StepPlan& plan);
  void check_order(const StepPlan& plan) const;
  void execute(const StepPlan& plan);
  void write_tokens(const ScheduledSequence& scheduled, Answer& answer, bool step_fails);
  void check_reads(const Answer& answer, std::int32_t num_tokens) const;
  void sample(const StepPlan& plan);
  void append(Answer& answer);
  void end(Answer& answer);
  void check_conservation() const;
  void check_shares();
  std::int32_t blocks_of_share(const std::string& tenant) const;

  std::int32_t next_token(const Answer& answer, std::uint64_t digest) const;
  std::uint64_t& cell(const Sequence& sequence, std::int32_t position);
  const std::uint64_t& cell(const Sequence& sequence, std::int32_t position) const;
  bool comes_before(const Answer& a, const Answer& b) const;
  Answer& answer_of(const Sequence& sequence) { return answers_.at(sequence.id); }

  Random random_;
  SchedulerOptions options_;
  bool faulty_ = false;
  std::int32_t abort_percent_ = 0;  // of the answers, several times a step
  std::int32_t block_size_ = 0;
  std::int32_t alphabet_ = 0;
  std::unique_ptr<BlockAllocator> blocks_;
  std::unique_ptr<PrefixCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;

  std::vector<Arrival> arrivals_;  // by step
  std::size_t num_arrived_ = 0;
  std::int64_t num_accepted_ = 0;
  std::map<SequenceId, Answer> answers_;  // those that have not ended
  SequenceId next_id_ = 0;
  std::int64_t now_ = 0;               // step
  std::vector<std::uint64_t> memory_;  // [num_blocks * block_size]
  std::vector<BlockId> held_;          // by an outsider: to the scheduler, allocations that fail
  SimulationTally tally_;
};

}  // namespace redline
