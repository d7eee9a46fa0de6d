#include "scheduler/scheduler.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "kernels/check.h"

namespace redline {
namespace {

SchedulerOptions checked(SchedulerOptions options) {
  REDLINE_CHECK(options.max_num_batched_tokens >= 1 && options.max_num_seqs >= 1 &&
                    options.max_chunk_tokens >= 1 && options.max_prompt_logits >= 1 &&
                    options.priority_head_start >= 0 && options.window >= 0 && options.reserved_tokens >= 0,
                "positive limits");
  REDLINE_CHECK(options.target_step_s <= 0 || options.step_seconds, "a target needs what steps take");
  REDLINE_CHECK(options.watermark >= 0 && options.watermark < 1, "a share of the pool");
  const auto is_share = [](double share) { return share > 0 && share <= 1; };
  REDLINE_CHECK(is_share(options.kv_share) && std::ranges::all_of(options.kv_shares, is_share,
                                                                  [](const auto& of) { return of.second; }),
                "shares of the pool");
  // A step has room for one token of every running sequence.
  options.max_num_seqs = std::min(options.max_num_seqs, options.max_num_batched_tokens);
  return options;
}

// Tenants share no prefixes, whatever their requests' salts. The empty salt is that of sessions.
std::string salt_of(const std::string& tenant, const std::string& salt) {
  return tenant.empty() && salt.empty() ? "" : std::to_string(tenant.size()) + ":" + tenant + salt;
}

std::string too_long(const SequenceSpec& spec, const std::string& what, std::int32_t capacity_tokens) {
  return "the request may need a cache of " + std::to_string(spec.max_num_tokens - 1) +
         " tokens (prompt and generated), " + what + " holds " + std::to_string(capacity_tokens);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, BlockAllocator& blocks, PrefixCache& prefix_cache)
    : options_(checked(options)), blocks_(blocks), prefix_cache_(prefix_cache) {}

AddResult Scheduler::add(SequenceSpec spec) {
  REDLINE_CHECK(!spec.prompt.empty() && std::ssize(spec.prompt) < spec.max_num_tokens && spec.n >= 1,
                "a prompt, a token to generate, an answer");
  REDLINE_CHECK(!spec.needs_prompt_logits || !spec.use_prefix_cache, "what is cached has no logits");
  REDLINE_CHECK(!sequences_.contains(spec.id), "sequence ids are unique");
  if (spec.max_num_tokens - 1 > capacity_tokens())
    return {.error = too_long(spec, "the cache", capacity_tokens())};
  if (const std::int32_t capacity = capacity_tokens(spec.tenant); spec.max_num_tokens - 1 > capacity)
    return {.error = too_long(spec, "the tenant's share of it", capacity)};
  if (spec.n > options_.max_num_seqs)
    return {.error = "the request asks for " + std::to_string(spec.n) + " answers, at most " +
                     std::to_string(options_.max_num_seqs) + " sequences run at once"};
  auto sequence = std::make_unique<Sequence>();
  sequence->id = spec.id;
  sequence->tokens = std::move(spec.prompt);
  sequence->num_prompt_tokens = sequence->num_tokens();
  sequence->max_num_tokens = spec.max_num_tokens;
  sequence->priority = spec.priority;
  sequence->tenant = &tenants_.of(spec.tenant, blocks_of_share(spec.tenant));
  sequence->cache_salt = salt_of(spec.tenant, spec.cache_salt);
  sequence->use_prefix_cache = spec.use_prefix_cache && options_.enable_prefix_cache;
  sequence->needs_prompt_logits = spec.needs_prompt_logits;
  sequence->rank = num_arrivals_++ + std::int64_t{spec.priority} * options_.priority_head_start;
  sequence->serial = num_serials_++;
  sequence->num_seats = spec.n;
  sequence->tenant->waiting.insert(sequence.get());
  return {.sequence = (sequences_[spec.id] = std::move(sequence)).get()};
}

Sequence& Scheduler::fork(Sequence& parent, SequenceId child_id) {
  REDLINE_CHECK(parent.status == SequenceStatus::kRunning && parent.num_uncomputed() == 0,
                "a sequence is forked when all its tokens are computed");
  REDLINE_CHECK(parent.num_seats > 1, "at most n - 1 forks");
  REDLINE_CHECK(!sequences_.contains(child_id), "sequence ids are unique");
  auto child = std::make_unique<Sequence>(parent);
  child->id = child_id;
  child->forked_from = parent.id;
  child->serial = num_serials_++;
  child->num_seats = 1;
  --parent.num_seats;
  for (const BlockId block : child->blocks)
    if (block != kTrashBlock) blocks_.share(block);
  child->tenant->running.insert(child.get());
  return *(sequences_[child_id] = std::move(child));
}

void Scheduler::finish(Sequence& sequence) {
  REDLINE_CHECK(sequence.status != SequenceStatus::kFinished, "a sequence ends once");
  if (sequence.status == SequenceStatus::kRunning) {
    sequence.tenant->running.erase(&sequence);
    num_seats_taken_ -= sequence.num_seats;
    if (options_.static_batches) batch_is_open_ = false;
    release_blocks(sequence);
  } else {
    sequence.tenant->waiting.erase(&sequence);
  }
  sequence.status = SequenceStatus::kFinished;
  const auto owner = sequences_.find(sequence.id);
  ended_.push_back(std::move(owner->second));
  sequences_.erase(owner);
}

bool Scheduler::abort(SequenceId id) {
  Sequence* sequence = find(id);
  if (sequence) finish(*sequence);
  return sequence != nullptr;
}

StepPlan Scheduler::schedule() {
  REDLINE_CHECK(!step_in_flight_, "the last step was committed or abandoned");
  ended_.clear();
  StepPlan plan;
  StepBudget budget(options_.max_num_batched_tokens, options_.target_step_s, options_.step_seconds);
  for (const auto& [name, tenant] : tenants_.all())
    for (const Sequence* sequence : tenant.running) budget.add_running(*sequence);
  if (num_seats_taken_ == 0) batch_is_open_ = true;
  admits_ = batch_is_open_;
  tenants_.begin_step();
  schedule_decodes(plan, budget);
  schedule_prompts(plan, budget);
  tenants_.end_step();
  plan.load = budget.load();
  step_in_flight_ = !plan.empty();
  return plan;
}

// Those that run, who would lose their blocks first last: whoever stands first of all, then tenant by tenant,
// that which holds the fewest blocks first, each in order.
std::vector<Sequence*> Scheduler::running_by_claim() {
  std::vector<Tenant*> tenants;
  Sequence* first = nullptr;
  for (auto& [name, tenant] : tenants_.all()) {
    if (tenant.running.empty()) continue;
    tenants.push_back(&tenant);
    if (!first || InOrder()(*tenant.running.begin(), first)) first = *tenant.running.begin();
  }
  std::ranges::stable_sort(tenants, {}, &Tenant::num_blocks);
  std::vector<Sequence*> result;
  if (first) result.push_back(first);
  for (const Tenant* tenant : tenants)
    std::ranges::copy_if(tenant->running, std::back_inserter(result),
                         [first](const Sequence* sequence) { return sequence != first; });
  return result;
}

void Scheduler::schedule_decodes(StepPlan& plan, StepBudget& budget) {
  // Preemption takes the last that runs, or the tenant's last: never one already planned, nor the place of
  // this iteration unless provide_block says so.
  std::vector<Sequence*> by_claim = running_by_claim();
  for (std::size_t i = 0; i < by_claim.size(); ++i) {
    Sequence& sequence = *by_claim[i];
    if (sequence.status != SequenceStatus::kRunning || sequence.num_uncomputed() != 1) continue;
    if (provide_block(sequence, by_claim, plan)) schedule_chunk(sequence, plan, budget);
  }
}

void Scheduler::schedule_prompts(StepPlan& plan, StepBudget& budget) {
  while (budget.tokens_left() > 0) {
    Tenant* tenant = tenants_.next(admits_);
    if (!tenant) return;
    if (tenant->has_prompt()) {
      Sequence& sequence = *tenant->prompts[tenant->num_planned_prompts++];
      if (sequence.status == SequenceStatus::kRunning && !schedule_chunk(sequence, plan, budget)) return;
      continue;
    }
    Sequence& sequence = **tenant->waiting.begin();
    switch (admit(sequence, budget)) {
      case Admission::kDone:
        if (!schedule_chunk(sequence, plan, budget)) return;
        break;
      case Admission::kTenantIsFull:
        tenant->is_held = true;
        break;
      case Admission::kPoolIsFull:  // nobody passes it
        admits_ = false;
    }
  }
}

Scheduler::Admission Scheduler::admit(Sequence& sequence, StepBudget& budget) {
  if (num_seats_taken_ + sequence.num_seats > options_.max_num_seqs || !budget.admits(sequence))
    return Admission::kPoolIsFull;
  const Admission admission = allocate_prompt(sequence);
  if (admission != Admission::kDone) return admission;
  sequence.tenant->waiting.erase(&sequence);
  sequence.tenant->running.insert(&sequence);
  sequence.status = SequenceStatus::kRunning;
  num_seats_taken_ += sequence.num_seats;
  budget.add_running(sequence);
  return admission;
}

// Plans as many tokens as the budget allows; false if it allows none to anybody.
bool Scheduler::schedule_chunk(Sequence& sequence, StepPlan& plan, StepBudget& budget) {
  const bool needs_all_logits =
      sequence.needs_prompt_logits && sequence.num_ever_computed < sequence.num_prompt_tokens;
  std::int32_t num_wanted = std::min(sequence.num_uncomputed(), options_.max_chunk_tokens);
  if (needs_all_logits && num_wanted > 1) {  // one row is everybody's own
    const std::int32_t num_left = options_.max_prompt_logits - plan.num_prompt_logits;
    if (num_left < num_wanted) sequence.tenant->is_cut = true;
    if (num_left == 0) return true;
    num_wanted = std::min(num_wanted, num_left);
  }
  const bool goes_on =
      sequence.num_uncomputed() == 1 && sequence.num_computed_tokens >= sequence.num_prompt_tokens;
  const std::int32_t num_tokens = goes_on ? 1 : budget.chunk(sequence, num_wanted);
  if (num_tokens < num_wanted) sequence.tenant->is_cut = true;
  if (num_tokens == 0) return false;
  if (needs_all_logits && num_tokens > 1) plan.num_prompt_logits += num_tokens;
  const std::int32_t num_lost = sequence.num_ever_computed - sequence.num_computed_tokens;
  ScheduledSequence scheduled;
  scheduled.sequence = &sequence;
  scheduled.num_tokens = num_tokens;
  scheduled.num_recomputed = std::min(num_tokens, num_lost);
  scheduled.needs_logits = num_tokens == sequence.num_uncomputed();
  scheduled.is_decode = sequence.num_computed_tokens >= sequence.num_prompt_tokens && num_tokens == 1 &&
                        scheduled.num_recomputed == 0;
  scheduled.needs_all_logits = needs_all_logits;
  plan.sequences.push_back(scheduled);
  budget.take(sequence, num_tokens, goes_on);
  sequence.tenant->virtual_tokens += num_tokens;
  return true;
}

// Makes the place of the next token this sequence's own: a new block, or a copy of one shared with a fork,
// preempting as it must. False if it was preempted itself. What was preempted would take its blocks back at
// once: hence no admissions in that step.
bool Scheduler::provide_block(Sequence& sequence, std::vector<Sequence*>& by_claim, StepPlan& plan) {
  Tenant& tenant = *sequence.tenant;
  const auto index = static_cast<std::size_t>(sequence.num_computed_tokens / prefix_cache_.block_size());
  for (;;) {
    const bool exists = index < sequence.blocks.size();
    if (exists && blocks_.num_references(sequence.blocks[index]) == 1) return true;
    if (const std::optional<BlockId> block = take_block(tenant)) {
      if (exists) {
        plan.block_copies.push_back({.source = sequence.blocks[index], .target = *block});
        release_block(tenant, sequence.blocks[index]);
        sequence.blocks[index] = *block;
      } else {
        sequence.blocks.push_back(*block);
      }
      return true;
    }
    Sequence* victim = nullptr;
    if (tenant.num_blocks >= tenant.most_blocks) {
      victim = *tenant.running.rbegin();
      tenant.is_held = true;
    } else {
      while (by_claim.back()->status != SequenceStatus::kRunning) by_claim.pop_back();
      victim = by_claim.back();
      admits_ = false;
    }
    preempt(*victim, plan);
    if (victim == &sequence) return false;
  }
}

// What is reserved is at most all that the tenant may hold.
std::int32_t Scheduler::num_blocks_at_admission(const Sequence& sequence) const {
  const std::int32_t block_size = prefix_cache_.block_size();
  return std::max(
      num_blocks_for(sequence.num_tokens(), block_size),
      std::min(num_blocks_for(options_.reserved_tokens, block_size), sequence.tenant->most_blocks));
}

// Takes cached blocks and new ones for all known tokens, or nothing if memory does not allow. At least the
// last token is left to compute: its logits are wanted.
Scheduler::Admission Scheduler::allocate_prompt(Sequence& sequence) {
  std::vector<BlockId> hits;
  if (sequence.use_prefix_cache)
    hits =
        prefix_cache_.find(sequence.cache_salt, std::span(sequence.tokens).first(sequence.tokens.size() - 1));
  const auto num_hits = static_cast<std::int32_t>(hits.size());
  const auto num_free_hits = static_cast<std::int32_t>(
      std::ranges::count_if(hits, [this](BlockId b) { return blocks_.num_references(b) == 0; }));
  const std::int32_t num_new = num_blocks_at_admission(sequence) - num_hits;
  Tenant& tenant = *sequence.tenant;
  const std::int32_t num_taken = num_new + num_free_hits;
  const auto reserve = [this](std::int32_t num_blocks) {
    return static_cast<std::int32_t>(std::ceil(options_.watermark * num_blocks));
  };
  if (tenant.most_blocks < blocks_.capacity() &&
      tenant.num_blocks + num_taken + (tenant.running.empty() ? 0 : reserve(tenant.most_blocks)) >
          tenant.most_blocks)
    return Admission::kTenantIsFull;
  if (num_taken + (num_seats_taken_ == 0 ? 0 : reserve(blocks_.capacity())) > blocks_.num_free())
    return Admission::kPoolIsFull;

  for (const BlockId block : hits) share_block(tenant, block);
  sequence.blocks = std::move(hits);
  for (std::int32_t i = 0; i < num_new; ++i) sequence.blocks.push_back(*take_block(tenant));
  sequence.num_published_blocks = num_hits;
  sequence.num_computed_tokens = num_hits * prefix_cache_.block_size();
  sequence.num_ever_computed = std::max(sequence.num_ever_computed, sequence.num_computed_tokens);
  if (sequence.use_prefix_cache && sequence.num_preemptions == 0) {
    sequence.num_cached_tokens = sequence.num_computed_tokens;
    num_prefix_queries_ += sequence.num_prompt_tokens;
    num_prefix_hits_ += sequence.num_cached_tokens;
  }
  return Admission::kDone;
}

void Scheduler::preempt(Sequence& sequence, StepPlan& plan) {
  sequence.tenant->running.erase(&sequence);
  sequence.tenant->waiting.insert(&sequence);
  sequence.status = SequenceStatus::kWaiting;
  num_seats_taken_ -= sequence.num_seats;
  release_blocks(sequence);
  sequence.num_computed_tokens = 0;
  ++sequence.num_preemptions;
  ++num_preemptions_;
  plan.preempted.push_back(&sequence);
}

void Scheduler::commit(const StepPlan& plan) {
  step_in_flight_ = false;
  for (const ScheduledSequence& scheduled : plan.sequences) {
    Sequence& sequence = *scheduled.sequence;
    if (sequence.status == SequenceStatus::kFinished) continue;
    sequence.num_computed_tokens += scheduled.num_tokens;
    sequence.num_ever_computed = std::max(sequence.num_ever_computed, sequence.num_computed_tokens);
    if (scheduled.needs_logits && sequence.use_prefix_cache) publish(sequence);
    if (options_.window > 0) free_passed_blocks(sequence);
  }
}

void Scheduler::abandon(const StepPlan& plan) {
  step_in_flight_ = false;
  for (const ScheduledSequence& scheduled : plan.sequences)
    if (scheduled.sequence->status != SequenceStatus::kFinished) finish(*scheduled.sequence);
}

void Scheduler::append_token(Sequence& sequence, std::int32_t token) {
  REDLINE_CHECK(sequence.status == SequenceStatus::kRunning && sequence.num_uncomputed() == 0,
                "a token follows computed ones");
  REDLINE_CHECK(sequence.num_tokens() < sequence.max_num_tokens, "no more tokens than announced");
  sequence.tokens.push_back(token);
}

// Where another sequence published the same contents first, its block takes the place of ours: so a sequence
// holds every ancestor of what it publishes, as the cache requires, and contents are kept once.
void Scheduler::publish(Sequence& sequence) {
  if (sequence.num_freed_blocks() > 0) return;  // an ancestor is gone
  const std::int32_t block_size = prefix_cache_.block_size();
  const std::int32_t num_tokens = options_.window > 0
                                      ? std::min(sequence.num_computed_tokens, options_.window)
                                      : sequence.num_computed_tokens;
  const std::int32_t num_full = num_tokens / block_size;
  for (std::int32_t& i = sequence.num_published_blocks; i < num_full; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(index * static_cast<std::size_t>(block_size), static_cast<std::size_t>(block_size));
    const BlockId parent = i == 0 ? kNoBlock : sequence.blocks[index - 1];
    const BlockId own = sequence.blocks[index];
    const BlockId published = prefix_cache_.publish(sequence.cache_salt, parent, tokens, own);
    if (published == own) continue;
    share_block(*sequence.tenant, published);
    release_block(*sequence.tenant, own);
    sequence.blocks[index] = published;
  }
}

// The next token sees the last `window` tokens, itself included.
void Scheduler::free_passed_blocks(Sequence& sequence) {
  const std::int32_t num_unseen = std::max(0, sequence.num_computed_tokens + 1 - options_.window);
  const std::int32_t num_passed = num_unseen / prefix_cache_.block_size();
  for (std::int32_t i = std::max(sequence.num_passed_blocks, sequence.num_published_blocks); i < num_passed;
       ++i) {
    BlockId& block = sequence.blocks[static_cast<std::size_t>(i)];
    release_block(*sequence.tenant, block);
    block = kTrashBlock;
  }
  sequence.num_passed_blocks = num_passed;
}

// Children before parents, see PrefixCache.
void Scheduler::release_blocks(Sequence& sequence) {
  for (auto block = sequence.blocks.rbegin(); block != sequence.blocks.rend(); ++block)
    if (*block != kTrashBlock) release_block(*sequence.tenant, *block);
  sequence.blocks.clear();
  sequence.num_passed_blocks = 0;
}

std::int32_t Scheduler::blocks_of_share(const std::string& tenant) const {
  const auto named = options_.kv_shares.find(tenant);
  const double share = named == options_.kv_shares.end() ? options_.kv_share : named->second;
  return std::max(1, static_cast<std::int32_t>(share * blocks_.capacity()));
}

// A free block within the tenant's limit.
std::optional<BlockId> Scheduler::take_block(Tenant& tenant) {
  if (tenant.num_blocks >= tenant.most_blocks) return std::nullopt;
  const std::optional<BlockId> block = blocks_.allocate();
  if (block) ++tenant.num_blocks;
  return block;
}

void Scheduler::share_block(Tenant& tenant, BlockId block) {
  if (blocks_.num_references(block) == 0) ++tenant.num_blocks;
  blocks_.share(block);
}

void Scheduler::release_block(Tenant& tenant, BlockId block) {
  blocks_.release(block);
  if (blocks_.num_references(block) == 0) --tenant.num_blocks;
}

Sequence* Scheduler::find(SequenceId id) const {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

std::int32_t Scheduler::capacity_tokens() const { return blocks_.capacity() * prefix_cache_.block_size(); }

std::int32_t Scheduler::capacity_tokens(const std::string& tenant) const {
  return blocks_of_share(tenant) * prefix_cache_.block_size();
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.num_preemptions = num_preemptions_;
  stats.num_prefix_queries = num_prefix_queries_;
  stats.num_prefix_hits = num_prefix_hits_;
  stats.num_blocks = blocks_.capacity();
  stats.num_used_blocks = blocks_.capacity() - blocks_.num_free();
  std::int64_t num_slots = 0, num_filled = 0;
  for (const auto& [name, tenant] : tenants_.all()) {
    for (const Sequence* sequence : tenant.running) {
      const std::int64_t freed = std::int64_t{sequence->num_freed_blocks()} * prefix_cache_.block_size();
      const std::int64_t slots = std::ssize(sequence->blocks) * prefix_cache_.block_size() - freed;
      num_slots += slots;
      num_filled += std::min<std::int64_t>(slots, sequence->num_tokens() - freed);
    }
    const auto num_running = std::ssize(tenant.running), num_waiting = std::ssize(tenant.waiting);
    stats.num_running += num_running;
    stats.num_waiting += num_waiting;
    if (num_running + num_waiting > 0)
      stats.tenants.push_back({name, num_running, num_waiting, tenant.num_blocks});
  }
  if (num_slots > 0)
    stats.fragmentation = 1 - static_cast<double>(num_filled) / static_cast<double>(num_slots);
  return stats;
}

std::optional<std::string> Scheduler::integrity_error(std::span<const BlockId> held_elsewhere) const {
  std::vector<std::int32_t> num_holders(static_cast<std::size_t>(blocks_.num_blocks()), 0);
  for (const BlockId block : held_elsewhere) ++num_holders[static_cast<std::size_t>(block)];
  std::int32_t num_seats = 0;
  for (const auto& [id, sequence] : sequences_) {
    const std::string name = "sequence " + std::to_string(id);
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(sequence->blocks.size()); ++i) {
      const BlockId block = sequence->blocks[static_cast<std::size_t>(i)];
      const bool freed = i >= sequence->num_published_blocks && i < sequence->num_passed_blocks;
      if ((block == kTrashBlock) != freed)
        return name + " and its window disagree on block " + std::to_string(i);
      if (!freed) ++num_holders[static_cast<std::size_t>(block)];
    }
    const bool running = sequence->status == SequenceStatus::kRunning;
    if (running != sequence->tenant->running.contains(sequence.get()) ||
        running == sequence->tenant->waiting.contains(sequence.get()))
      return name + " is not in the one queue of its status";
    const std::int32_t known = num_blocks_for(sequence->num_tokens(), prefix_cache_.block_size());
    const std::int32_t computed = num_blocks_for(sequence->num_computed_tokens, prefix_cache_.block_size());
    const std::int32_t most = std::max(known, running ? num_blocks_at_admission(*sequence) : 0);
    const auto held = static_cast<std::int32_t>(sequence->blocks.size());
    if (running ? held < computed || held > most : held != 0)
      return name + " holds " + std::to_string(held) + " blocks for " +
             std::to_string(sequence->num_computed_tokens) + " of " + std::to_string(sequence->num_tokens()) +
             " tokens computed";
    if (running) num_seats += sequence->num_seats;
  }
  if (auto error = tenant_error()) return error;
  if (num_seats != num_seats_taken_ || num_seats > options_.max_num_seqs)
    return std::to_string(num_seats) + " seats are held, counted as " + std::to_string(num_seats_taken_);
  for (BlockId block = 0; block < blocks_.num_blocks(); ++block)
    if (num_holders[static_cast<std::size_t>(block)] != blocks_.num_references(block))
      return "block " + std::to_string(block) + " is held " +
             std::to_string(num_holders[static_cast<std::size_t>(block)]) + " times and has " +
             std::to_string(blocks_.num_references(block)) + " references";
  return std::nullopt;
}

std::optional<std::string> Scheduler::tenant_error() const {
  std::size_t num_queued = 0;
  for (const auto& [name, tenant] : tenants_.all()) {
    num_queued += tenant.running.size() + tenant.waiting.size();
    std::set<BlockId> held;
    for (const Sequence* sequence : tenant.running)
      held.insert(sequence->blocks.begin(), sequence->blocks.end());
    held.erase(kTrashBlock);
    if (std::ssize(held) != tenant.num_blocks || tenant.num_blocks > tenant.most_blocks)
      return "tenant '" + name + "' holds " + std::to_string(held.size()) + " blocks, counted as " +
             std::to_string(tenant.num_blocks) + ", and may hold " + std::to_string(tenant.most_blocks);
  }
  if (num_queued != sequences_.size()) return "a queue holds a sequence that has ended";
  return std::nullopt;
}

}  // namespace redline
