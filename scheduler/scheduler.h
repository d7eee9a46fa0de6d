// Which sequences compute how many tokens in the next step.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvcache/prefix_cache.h"
#include "scheduler/step_budget.h"
#include "scheduler/step_plan.h"
#include "scheduler/tenants.h"

namespace redline {

struct SchedulerOptions {
  std::int32_t max_num_batched_tokens = 512;  // in one step
  std::int32_t max_num_seqs = 256;            // running at once; no more than max_num_batched_tokens count
  std::int32_t max_chunk_tokens = std::numeric_limits<std::int32_t>::max();  // of one prompt in one step
  /// Tokens in one step of prompts that need logits of each. Those and one for each sequence that runs are
  /// all the logits that a step has.
  std::int32_t max_prompt_logits = 128;
  /// What a step should take at most, by `step_seconds`, so that sequences that decode keep this pace: chunks
  /// are cut and admissions wait for it. 0: any time. A target that a single sequence misses is missed.
  double target_step_s = 0;
  StepSeconds step_seconds = {};
  bool enable_prefix_cache = true;
  /// What continuous batching and paging took the place of, for comparison (docs/signatures.md).
  /// Static batches: once one of those that run has ended, nobody joins until all have.
  bool static_batches = false;
  /// A sequence takes blocks for so many tokens when it is admitted, however few it has, and never more.
  std::int32_t reserved_tokens = 0;
  /// Keys that a query of any layer sees, the last ones, its own included; 0: all. Blocks that lie before are
  /// freed.
  std::int32_t window = 0;
  double watermark = 0.01;  // share of the pool that an admission leaves free, for running sequences to grow
  /// A request one level of priority ahead goes before the `priority_head_start` that arrived last. Finite,
  /// so that every request's turn comes.
  std::int32_t priority_head_start = 1024;
  /// Share of the pool that a tenant's sequences may hold, (0, 1]: of each, but for those named.
  double kv_share = 1;
  std::map<std::string, double> kv_shares = {};
};

/// Of a tenant that has sequences.
struct TenantStats {
  std::string name;
  std::int64_t num_running = 0, num_waiting = 0;
  std::int32_t num_blocks = 0;  // referenced by its sequences
};

struct SchedulerStats {
  std::int64_t num_running = 0;
  std::int64_t num_waiting = 0;
  std::int64_t num_preemptions = 0;       // since the start
  std::int64_t num_prefix_queries = 0;    // prompt tokens looked up, since the start
  std::int64_t num_prefix_hits = 0;       // of them, found
  std::int32_t num_used_blocks = 0;       // referenced by a sequence
  std::int32_t num_blocks = 0;            // that can be used at all
  double fragmentation = 0;               // of the slots in running sequences' tables, without a known token
  std::vector<TenantStats> tenants = {};  // by name
};

/// The outcome of Scheduler::add: a sequence, or why it can never run.
struct AddResult {
  Sequence* sequence = nullptr;
  std::string error = {};
};

/// Continuous batching. A tenant's sequences stand in one order: rank (arrival, moved by priority), then
/// serial. A step holds one token of each running sequence that decodes, then chunks of running prompts, then
/// of waiting ones as they are admitted, each in order and within the budget. Between tenants, the next chunk
/// or admission is that of the one that has been served the fewest tokens (see Tenants): what two tenants are
/// served while both are kept waiting differs by at most twice what max_num_seqs sequences compute from
/// beginning to end.
///
/// Memory: a sequence is admitted, in its turn, once blocks for all its known tokens are free, and takes
/// them; nobody passes it unless its own tenant's limit is what it waits for. So only decoding asks for more.
/// Where nothing is free, the tenant that holds the most blocks loses those of its last sequence in order,
/// which waits again; a tenant at its own limit does so for itself. Of all that run, whoever stands first is
/// never preempted, and finishes; then the next stands first.
///
/// Where all layers have a window, a sequence gives up blocks as its window passes them, but for those that
/// the prefix cache knows: whoever holds what follows holds them too. Only the first window's worth of tokens
/// is ever published, so a sequence holds at most twice its window and what it computes in a step.
///
/// A pure function of the calls made: no clock, no randomness. Not thread-safe.
class Scheduler {
 public:
  /// `blocks` and `prefix_cache` (over the same blocks) must outlive it. Requires a budget and a sequence of
  /// at least 1.
  Scheduler(const SchedulerOptions& options, BlockAllocator& blocks, PrefixCache& prefix_cache);

  /// Queues a sequence, or says with both numbers why it never fits.
  AddResult add(SequenceSpec spec);
  /// A copy of `parent` that shares its blocks, running at once: before its next token is appended, once all
  /// its tokens are computed. At most n - 1 times per sequence added.
  Sequence& fork(Sequence& parent, SequenceId child_id);
  /// Ends a sequence at any time and frees its blocks.
  void finish(Sequence& sequence);
  /// The same by id; false if there is no such sequence (any more).
  bool abort(SequenceId id);

  /// Plans the next step: empty if nothing can run. The plan must then be committed or abandoned.
  StepPlan schedule();
  /// The step ran: its tokens count as computed, except in sequences that have ended meanwhile. Full blocks
  /// are published in the prefix cache once the sequence has logits, hence abort a sequence whose logits are
  /// not finite before this.
  void commit(const StepPlan& plan);
  /// The step failed: ends all its sequences.
  void abandon(const StepPlan& plan);
  /// Adds the token sampled for a sequence whose tokens are all computed.
  void append_token(Sequence& sequence, std::int32_t token);

  /// Null if there is none.
  Sequence* find(SequenceId id) const;
  bool has_work() const { return !sequences_.empty(); }
  /// The most tokens that one sequence's cache can hold; the last token of a sequence needs no place.
  std::int32_t capacity_tokens() const;
  /// The same within the tenant's share of the pool.
  std::int32_t capacity_tokens(const std::string& tenant) const;
  SchedulerStats stats() const;

  /// The first violation found, or nothing: every block is referenced by exactly the tables that hold it
  /// (and once for each mention in `held_elsewhere`), tables have the size that they should.
  std::optional<std::string> integrity_error(std::span<const BlockId> held_elsewhere = {}) const;

 private:
  enum class Admission : std::uint8_t { kDone, kTenantIsFull, kPoolIsFull };

  void schedule_decodes(StepPlan& plan, StepBudget& budget);
  void schedule_prompts(StepPlan& plan, StepBudget& budget);
  Admission admit(Sequence& sequence, StepBudget& budget);
  bool schedule_chunk(Sequence& sequence, StepPlan& plan, StepBudget& budget);
  std::vector<Sequence*> running_by_claim();
  bool provide_block(Sequence& sequence, std::vector<Sequence*>& by_claim, StepPlan& plan);
  Admission allocate_prompt(Sequence& sequence);
  std::int32_t num_blocks_at_admission(const Sequence& sequence) const;
  void preempt(Sequence& sequence, StepPlan& plan);
  void publish(Sequence& sequence);
  void free_passed_blocks(Sequence& sequence);
  void release_blocks(Sequence& sequence);

  std::int32_t blocks_of_share(const std::string& tenant) const;
  std::optional<BlockId> take_block(Tenant& tenant);
  void share_block(Tenant& tenant, BlockId block);
  void release_block(Tenant& tenant, BlockId block);
  std::optional<std::string> tenant_error() const;

  const SchedulerOptions options_;
  BlockAllocator& blocks_;
  PrefixCache& prefix_cache_;

  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<std::unique_ptr<Sequence>> ended_;  // kept for the plan that may name them
  Tenants tenants_;
  std::int32_t num_seats_taken_ = 0;
  bool step_in_flight_ = false;
  bool admits_ = true;  // in the step being planned
  bool batch_is_open_ = true;
  std::int64_t num_arrivals_ = 0, num_serials_ = 0;
  std::int64_t num_preemptions_ = 0, num_prefix_queries_ = 0, num_prefix_hits_ = 0;
};

}  // namespace redline
