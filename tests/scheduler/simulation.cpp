#include "tests/scheduler/simulation.h"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace redline {
namespace {

constexpr std::uint64_t kNotFinite = 0xbadbadbadbadbadu;
constexpr std::int64_t kLastArrivalStep = 30;

void require(bool condition, const std::string& promise) {
  if (!condition) throw std::runtime_error(promise);
}

void require_none(const std::optional<std::string>& error) { require(!error, error.value_or("")); }

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The digest of a prefix that ends in `token`.
std::uint64_t extend(std::uint64_t prefix, std::int32_t token) {
  return mix(prefix, static_cast<std::uint32_t>(token));
}

std::uint64_t digest_of_salt(const std::string& tenant, const std::string& salt) {
  std::uint64_t digest = mix(tenant.size(), salt.size());
  for (const char c : tenant + salt) digest = extend(digest, c);
  return digest;
}

std::uint64_t constant_hash(std::uint64_t, std::span<const std::int32_t>) { return 1; }
std::uint64_t two_bit_hash(std::uint64_t parent, std::span<const std::int32_t> tokens) {
  return prefix_hash(parent, tokens) & 3;
}

}  // namespace

SimulationTally& SimulationTally::operator+=(const SimulationTally& o) {
  steps += o.steps, tokens += o.tokens, recomputed_tokens += o.recomputed_tokens, hit_tokens += o.hit_tokens;
  preemptions += o.preemptions, block_copies += o.block_copies, freed_blocks += o.freed_blocks,
      steps_at_limit += o.steps_at_limit, completed += o.completed, aborted += o.aborted;
  failed += o.failed, rejected += o.rejected, forks += o.forks, trace = mix(trace, o.trace);
  return *this;
}

std::uint64_t Simulation::Random::next() {
  state += 0x9e3779b97f4a7c15u;
  return mix(state, 0);
}

Simulation::Simulation(std::uint64_t seed) : random_{mix(seed, 1)} {
  Random& r = random_;
  const std::int32_t block_sizes[] = {1, 2, 3, 4, 8};
  block_size_ = block_sizes[r.below(5)];
  alphabet_ = r.between(1, 3);
  faulty_ = r.chance(50);
  abort_percent_ = std::max(0, r.between(-1, 2));
  options_.max_num_batched_tokens = r.between(1, r.chance(50) ? 12 : 48);
  options_.max_num_seqs = r.between(1, 12);
  options_.max_chunk_tokens = r.between(1, r.chance(50) ? 4 : 32);
  options_.max_prompt_logits = r.between(1, 12);
  options_.enable_prefix_cache = r.chance(85);
  options_.watermark = r.below(3) * 0.1;
  options_.priority_head_start = r.between(0, 6);
  options_.window = r.chance(30) ? r.between(2, 20) : 0;
  if (r.chance(30)) options_.kv_share = r.between(2, 10) * 0.1;
  if (r.chance(30)) options_.kv_shares["a"] = r.between(2, 10) * 0.1;
  const PrefixHash hashes[] = {prefix_hash, two_bit_hash, constant_hash};
  const std::int32_t num_blocks = 1 + r.between(1, r.chance(70) ? 12 : 40);
  blocks_ = std::make_unique<BlockAllocator>(num_blocks);
  cache_ = std::make_unique<PrefixCache>(*blocks_, block_size_, hashes[r.below(3)]);
  scheduler_ = std::make_unique<Scheduler>(options_, *blocks_, *cache_);
  memory_.resize(static_cast<std::size_t>(num_blocks * block_size_));
  plan_arrivals();
}

void Simulation::plan_arrivals() {
  Random& r = random_;
  std::vector<std::vector<std::int32_t>> texts(2);  // many prompts start with one of these
  for (auto& text : texts)
    for (int i = 0; i < 24; ++i) text.push_back(r.below(alphabet_));
  arrivals_.resize(static_cast<std::size_t>(r.between(1, 16)));
  const char* const tenants[] = {"", "a", "b"};
  const std::int32_t num_tenants = r.between(1, 3);
  for (Arrival& arrival : arrivals_) {
    arrival.step = r.chance(40) ? 0 : r.below(kLastArrivalStep);
    SequenceSpec& spec = arrival.spec;
    spec.tenant = tenants[r.below(num_tenants)];
    const std::int32_t capacity = blocks_of_share(spec.tenant) * block_size_;
    const auto& text = texts[static_cast<std::size_t>(r.below(2))];
    spec.prompt.assign(text.begin(), text.begin() + r.between(1, std::min(24, capacity)));
    for (int i = r.below(4); i > 0; --i) spec.prompt.push_back(r.below(alphabet_));
    const auto num_prompt_tokens = static_cast<std::int32_t>(spec.prompt.size());
    const std::int32_t room = std::clamp(capacity + 1 - num_prompt_tokens, 1, 24);
    spec.max_num_tokens = num_prompt_tokens + r.between(1, r.chance(95) ? room : 2 * room);
    spec.n = r.chance(25) ? r.between(1, std::min(4, options_.max_num_seqs + 1)) : 1;
    spec.priority = r.between(-1, 1);
    spec.cache_salt = r.chance(25) ? "a" : "";
    spec.use_prefix_cache = r.chance(80);
    spec.needs_prompt_logits = !spec.use_prefix_cache && r.chance(60);
  }
  std::ranges::stable_sort(arrivals_, {}, &Arrival::step);
}

SimulationTally Simulation::run() {
  std::int64_t most_steps =
      kLastArrivalStep;  // however often each answer must start again for another's sake
  for (const Arrival& a : arrivals_)
    most_steps +=
        std::int64_t{a.spec.n} * a.spec.max_num_tokens * static_cast<std::int64_t>(arrivals_.size());
  for (; num_arrived_ < arrivals_.size() || !answers_.empty(); ++now_) {
    require(now_ <= most_steps, "everything ends within a bounded number of steps");
    for (; num_arrived_ < arrivals_.size() && arrivals_[num_arrived_].step <= now_; ++num_arrived_)
      submit(arrivals_[num_arrived_].spec);
    abort_some();
    hold_some_blocks();
    const StepPlan plan = scheduler_->schedule();
    check_plan(plan);
    check_conservation();
    check_shares();
    abort_some();
    if (!plan.empty()) execute(plan);
    check_conservation();
  }
  for (const BlockId block : held_) blocks_->release(block);
  require(blocks_->num_free() == blocks_->capacity(), "no block leaks");
  require(!scheduler_->has_work(), "no sequence is left behind");
  tally_.preemptions = scheduler_->stats().num_preemptions;
  return tally_;
}

void Simulation::submit(SequenceSpec spec) {
  spec.id = next_id_++;
  const std::int32_t most_seqs = std::min(options_.max_num_seqs, options_.max_num_batched_tokens);
  const bool fits =
      spec.max_num_tokens - 1 <= blocks_of_share(spec.tenant) * block_size_ && spec.n <= most_seqs;
  Answer answer{.arrival = num_accepted_,
                .priority = spec.priority,
                .n = spec.n,
                .num_prompt_tokens = static_cast<std::int32_t>(spec.prompt.size()),
                .max_num_tokens = spec.max_num_tokens,
                .tenant = spec.tenant,
                .salt = spec.cache_salt,
                .tokens = spec.prompt};
  const SequenceId id = spec.id;
  const AddResult added = scheduler_->add(std::move(spec));
  require((added.sequence != nullptr) == fits, "accepted if and only if it fits: " + added.error);
  if (!added.sequence) {
    ++tally_.rejected;
    return;
  }
  ++num_accepted_;
  answer.sequence = added.sequence;
  std::uint64_t digest = digest_of_salt(answer.tenant, answer.salt);
  for (const std::int32_t token : answer.tokens) answer.digests.push_back(digest = extend(digest, token));
  answers_.emplace(id, std::move(answer));
}

void Simulation::abort_some() {
  for (auto next = answers_.begin(); next != answers_.end();) {
    const auto current = next++;
    if (!random_.chance(abort_percent_)) continue;
    require(scheduler_->abort(current->first), "a request that has not ended can be aborted");
    ++tally_.aborted;
    answers_.erase(current);
  }
}

void Simulation::hold_some_blocks() {
  const bool may_hold = faulty_ && now_ < kLastArrivalStep;
  const bool hold = may_hold && random_.chance(20);
  if (may_hold && !hold && random_.chance(50)) return;  // keep what is held
  for (const BlockId block : held_) blocks_->release(block);
  held_.clear();
  if (!hold) return;
  for (std::int32_t i = random_.between(1, blocks_->capacity()); i > 0; --i)
    if (const auto block = blocks_->allocate()) held_.push_back(*block);
}

bool Simulation::comes_before(const Answer& a, const Answer& b) const {
  const auto rank = [this](const Answer& x) {
    return x.arrival + std::int64_t{x.priority} * options_.priority_head_start;
  };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  return a.sequence->id < b.sequence->id;
}

void Simulation::check_plan(const StepPlan& plan) {
  require(!plan.empty() || answers_.empty() || !held_.empty(), "every step makes progress");
  require(plan.num_tokens() <= options_.max_num_batched_tokens, "a step keeps its budget");
  require(std::ssize(plan.sequences) <= options_.max_num_seqs, "a step keeps its number of sequences");
  ++tally_.steps;
  check_order(plan);
  for (const Sequence* sequence : plan.preempted) {
    require(sequence->status == SequenceStatus::kWaiting, "what is preempted waits");
    answer_of(*sequence).waiting = true;
    answer_of(*sequence).poisoned = false;
  }
  for (auto& [id, answer] : answers_) {
    if (!answer.waiting || answer.sequence->status != SequenceStatus::kRunning) continue;
    const std::int32_t start = answer.sequence->num_computed_tokens;
    answer.waiting = false;
    require(start < answer.sequence->num_tokens(), "the last token is always computed");
    answer.num_gained += std::max(0, start - answer.num_ever_in_cache);
    answer.num_ever_in_cache = std::max(answer.num_ever_in_cache, start);
    tally_.hit_tokens += start;
  }
  std::set<const Sequence*> once;
  std::int32_t num_logits = 0;
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const Sequence& sequence = *scheduled.sequence;
    Answer& answer = answer_of(sequence);
    require(once.insert(&sequence).second, "a sequence is planned once");
    require(sequence.status == SequenceStatus::kRunning, "what is planned runs");
    require(sequence.tokens == answer.tokens, "the scheduler knows a sequence's tokens");
    require(scheduled.num_tokens >= 1 && scheduled.num_tokens <= sequence.num_uncomputed() &&
                scheduled.num_tokens <= options_.max_chunk_tokens,
            "a chunk keeps its limits");
    require(scheduled.needs_logits == (scheduled.num_tokens == sequence.num_uncomputed()),
            "logits follow the last known token");
    require(scheduled.needs_all_logits ==
                (sequence.needs_prompt_logits && answer.num_ever_in_cache < answer.num_prompt_tokens),
            "a prompt's logits are computed until all its tokens have been");
    num_logits +=
        scheduled.needs_all_logits ? scheduled.num_tokens - scheduled.num_recomputed : scheduled.needs_logits;
    if (scheduled.needs_all_logits)
      answer.num_prompt_logits += scheduled.num_tokens - scheduled.num_recomputed;
    require(!sequence.needs_prompt_logits || !scheduled.needs_logits ||
                answer.num_prompt_logits == answer.num_prompt_tokens,
            "each token of such a prompt has logits once");
    const std::int32_t start = sequence.num_computed_tokens;
    const std::int32_t lost = std::clamp(answer.num_ever_in_cache - start, 0, scheduled.num_tokens);
    require(scheduled.num_recomputed == lost, "recomputed tokens are those that were in the cache before");
    require(
        scheduled.is_decode == (scheduled.num_tokens == 1 && lost == 0 && start >= answer.num_prompt_tokens),
        "decode: one generated token, computed for the first time");
    tally_.tokens += scheduled.num_tokens;
    tally_.recomputed_tokens += lost;
    tally_.trace = mix(tally_.trace, static_cast<std::uint64_t>(sequence.id * 1000 + scheduled.num_tokens));
    for (const BlockId block : sequence.blocks)
      tally_.trace = mix(tally_.trace, static_cast<std::uint64_t>(block));
  }
  require(num_logits <= options_.max_num_seqs + options_.max_prompt_logits,
          "a step keeps its rows of logits");
  if (plan.num_tokens() < options_.max_num_batched_tokens)
    for (const auto& [id, answer] : answers_)
      require(
          answer.waiting || answer.sequence->num_uncomputed() == 0 || once.contains(answer.sequence) ||
              (answer.sequence->needs_prompt_logits && plan.num_prompt_logits == options_.max_prompt_logits),
          "while the budget lasts, everybody who runs takes part");
}

// Everybody admitted in this step comes before everybody of the same tenant who still waits, and whoever came
// first of those that ran was not preempted.
void Simulation::check_order(const StepPlan& plan) const {
  struct Ends {
    const Answer *last_admitted = nullptr, *first_waiting = nullptr;
  };
  std::map<std::string, Ends> tenants;
  const Answer* first = nullptr;
  for (const auto& [id, answer] : answers_) {
    auto& [last_admitted, first_waiting] = tenants[answer.tenant];
    const bool waits = answer.sequence->status == SequenceStatus::kWaiting;
    if (!answer.waiting && (!first || comes_before(answer, *first))) first = &answer;
    if (waits && (!first_waiting || comes_before(answer, *first_waiting))) first_waiting = &answer;
    if (!waits && answer.waiting && (!last_admitted || comes_before(*last_admitted, answer)))
      last_admitted = &answer;
  }
  for (const auto& [name, ends] : tenants)
    require(
        !ends.last_admitted || !ends.first_waiting || comes_before(*ends.last_admitted, *ends.first_waiting),
        "admission keeps the order");
  if (held_.empty())
    for (const Sequence* sequence : plan.preempted)
      require(sequence != first->sequence, "who stands first is never preempted");
}

std::int32_t Simulation::blocks_of_share(const std::string& tenant) const {
  const auto named = options_.kv_shares.find(tenant);
  const double share = named == options_.kv_shares.end() ? options_.kv_share : named->second;
  return std::max(1, static_cast<std::int32_t>(share * blocks_->capacity()));
}

// No tenant's sequences refer to more blocks than its share, nor two tenants' to the same.
void Simulation::check_shares() {
  std::map<std::string, std::set<BlockId>> held;
  std::size_t num_held = 0;
  std::set<BlockId> all;
  for (const auto& [id, answer] : answers_)
    held[answer.tenant].insert(answer.sequence->blocks.begin(), answer.sequence->blocks.end());
  for (auto& [tenant, blocks] : held) {
    blocks.erase(kTrashBlock);
    num_held += blocks.size();
    all.insert(blocks.begin(), blocks.end());
    const std::int32_t most = blocks_of_share(tenant);
    require(std::ssize(blocks) <= most, "a tenant keeps its share of the blocks");
    if (std::ssize(blocks) == most && most < blocks_->capacity()) ++tally_.steps_at_limit;
  }
  require(num_held == all.size(), "no block is two tenants'");
}

std::uint64_t& Simulation::cell(const Sequence& sequence, std::int32_t position) {
  return memory_.at(static_cast<std::size_t>(slot_of(sequence.blocks, position, block_size_)));
}
const std::uint64_t& Simulation::cell(const Sequence& sequence, std::int32_t position) const {
  return memory_.at(static_cast<std::size_t>(slot_of(sequence.blocks, position, block_size_)));
}

void Simulation::execute(const StepPlan& plan) {
  const bool step_fails = faulty_ && random_.chance(3);
  tally_.block_copies += std::ssize(plan.block_copies);
  for (const BlockCopy& copy : plan.block_copies)
    std::copy_n(memory_.begin() + copy.source * block_size_, block_size_,
                memory_.begin() + copy.target * block_size_);
  for (const ScheduledSequence& scheduled : plan.sequences)
    if (scheduled.sequence->status == SequenceStatus::kRunning)
      write_tokens(scheduled, answer_of(*scheduled.sequence), step_fails);
  if (step_fails) {
    scheduler_->abandon(plan);
    for (const ScheduledSequence& scheduled : plan.sequences)
      tally_.failed += static_cast<std::int64_t>(answers_.erase(scheduled.sequence->id));
    return;
  }
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const auto found = answers_.find(scheduled.sequence->id);
    if (found == answers_.end()) continue;
    Answer& answer = found->second;
    check_reads(answer, scheduled.sequence->num_computed_tokens + scheduled.num_tokens);
    if (answer.poisoned && scheduled.needs_logits) {  // seen in the logits
      scheduler_->finish(*scheduled.sequence);
      answers_.erase(found);
      ++tally_.failed;
    }
  }
  scheduler_->commit(plan);
  for (auto& [id, answer] : answers_) {  // also those that did not take part keep what they had
    const std::int32_t num_computed = answer.sequence->num_computed_tokens;
    check_reads(answer, num_computed);
    answer.num_ever_in_cache = std::max(answer.num_ever_in_cache, num_computed);
  }
  abort_some();
  sample(plan);
}

void Simulation::write_tokens(const ScheduledSequence& scheduled, Answer& answer, bool step_fails) {
  const Sequence& sequence = *scheduled.sequence;
  answer.num_useful += scheduled.num_tokens - scheduled.num_recomputed;
  if (faulty_ && random_.chance(2)) answer.poisoned = true;
  for (std::int32_t i = 0; i < scheduled.num_tokens; ++i) {
    const std::int32_t position = sequence.num_computed_tokens + i;
    const BlockId block = sequence.blocks.at(static_cast<std::size_t>(position / block_size_));
    require(block != kTrashBlock, "no token goes to the trash block");
    require(blocks_->num_references(block) == 1, "a step writes blocks that one sequence holds alone");
    require(!blocks_->is_retained(block), "a step writes no block that the prefix cache knows");
    if (step_fails && random_.chance(50)) continue;
    cell(sequence, position) =
        answer.poisoned ? kNotFinite : answer.digests.at(static_cast<std::size_t>(position));
  }
}

void Simulation::check_reads(const Answer& answer, std::int32_t num_tokens) const {
  if (answer.poisoned) return;
  const std::int32_t next = answer.sequence->num_computed_tokens;
  const std::int32_t first = options_.window > 0 ? std::max(0, next + 1 - options_.window) : 0;
  for (std::int32_t position = first; position < num_tokens; ++position)
    require(cell(*answer.sequence, position) == answer.digests[static_cast<std::size_t>(position)],
            "a sequence reads its own tokens: sequence " + std::to_string(answer.sequence->id) +
                " position " + std::to_string(position) + " of " + std::to_string(num_tokens));
}

void Simulation::sample(const StepPlan& plan) {
  for (const ScheduledSequence& scheduled : plan.sequences) {
    const auto found = answers_.find(scheduled.sequence->id);
    if (!scheduled.needs_logits || found == answers_.end()) continue;
    Answer& parent = found->second;
    if (!parent.forks_made) {
      parent.forks_made = true;
      for (std::int32_t branch = 1; branch < parent.n; ++branch) {
        Answer child = parent;
        child.branch = branch;
        child.num_gained = parent.num_ever_in_cache;
        child.num_useful = 0;
        child.sequence = &scheduler_->fork(*parent.sequence, next_id_);
        ++tally_.forks;
        append(answers_.emplace(next_id_++, std::move(child)).first->second);
      }
    }
    append(parent);
  }
}

// What the model says after a prefix: depends on what the cache holds for its last token, as logits do.
std::int32_t Simulation::next_token(const Answer& answer, std::uint64_t digest) const {
  const std::uint64_t drawn = mix(digest, static_cast<unsigned>(answer.branch));
  const bool ends = (drawn >> 32) % 16 == 0;
  return ends ? alphabet_ : static_cast<std::int32_t>(drawn % static_cast<unsigned>(alphabet_));
}

void Simulation::append(Answer& answer) {
  const std::int32_t token = next_token(answer, cell(*answer.sequence, answer.sequence->num_tokens() - 1));
  scheduler_->append_token(*answer.sequence, token);
  answer.tokens.push_back(token);
  answer.digests.push_back(extend(answer.digests.back(), token));
  const bool end_token = token == alphabet_;
  if (end_token || std::ssize(answer.tokens) == answer.max_num_tokens) end(answer);
}

void Simulation::end(Answer& answer) {
  std::uint64_t digest = digest_of_salt(answer.tenant, answer.salt);
  for (std::size_t i = 0; i < answer.tokens.size(); ++i) {
    if (i >= static_cast<std::size_t>(answer.num_prompt_tokens))
      require(answer.tokens[i] == next_token(answer, digest), "an answer's tokens are those it has alone");
    digest = extend(digest, answer.tokens[i]);
  }
  require(answer.num_useful + answer.num_gained == std::ssize(answer.tokens) - 1,
          "each token but the last was computed for the first time once, found or inherited");
  tally_.freed_blocks += std::ranges::count(answer.sequence->blocks, kTrashBlock);
  scheduler_->finish(*answer.sequence);
  ++tally_.completed;
  answers_.erase(answer.sequence->id);
}

void Simulation::check_conservation() const {
  require_none(blocks_->integrity_error());
  require_none(cache_->integrity_error());
  require_none(scheduler_->integrity_error(held_));
  const SchedulerStats stats = scheduler_->stats();
  require(stats.num_running + stats.num_waiting == std::ssize(answers_), "no request is lost or doubled");
  for (const auto& [id, answer] : answers_)
    require(scheduler_->find(id) == answer.sequence, "a request that has not ended is known");
}

}  // namespace redline
