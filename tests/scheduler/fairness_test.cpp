// What tenants are served, against each other.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace redline {
namespace {

// Tenants that flood, trickle or rest, and change their minds; each has requests of its own shape.
class TenantWorld {
 public:
  explicit TenantWorld(std::uint64_t seed) : random_(seed) {
    options_.max_num_batched_tokens = between(1, 48);
    options_.max_num_seqs = between(1, 8);
    options_.max_chunk_tokens = between(1, 32);
    options_.enable_prefix_cache = between(0, 1) == 1;
    options_.watermark = between(0, 2) * 0.1;
    longest_ = between(4, 40);
    const std::int32_t block_size = between(1, 8);
    blocks_.emplace(1 + (longest_ / block_size + 1) * between(1, 6));
    cache_.emplace(*blocks_, block_size);
    scheduler_.emplace(options_, *blocks_, *cache_);
    tenants_.resize(static_cast<std::size_t>(between(2, 4)));
    for (Tenant& tenant : tenants_) {
      tenant.longest_prompt = between(1, longest_ - 1);
      tenant.num_wanted = between(1, 4);
    }
    baseline_.assign(tenants_.size() * tenants_.size(), std::nullopt);
  }

  /// Tokens that two tenants' service may differ by while both are kept waiting.
  std::int64_t bound() const {
    return 2 * std::int64_t{std::min(options_.max_num_seqs, options_.max_num_batched_tokens)} * longest_;
  }
  std::int64_t served(std::size_t tenant) const { return tenants_[tenant].num_served; }
  std::size_t num_tenants() const { return tenants_.size(); }
  /// The most that two tenants' service has differed by since both began to wait, and the most that one of
  /// them was served meanwhile.
  std::int64_t worst_difference = 0, longest_race = 0;

  void step() {
    for (std::size_t i = 0; i < tenants_.size(); ++i) {
      if (between(0, 199) == 0) tenants_[i].num_wanted = between(0, 4);
      while (tenants_[i].num_queued < tenants_[i].num_wanted) submit(i);
    }
    const std::vector<bool> waited = waiting();
    const StepPlan plan = scheduler_->schedule();
    const std::vector<bool> waits = waiting();
    // Races end where somebody waits no more, before the step counts.
    for (std::size_t a = 0; a < tenants_.size(); ++a)
      for (std::size_t b = 0; b < a; ++b) {
        auto& baseline = baseline_[a * tenants_.size() + b];
        if (!waited[a] || !waited[b] || !waits[a] || !waits[b])
          baseline.reset();
        else if (!baseline)
          baseline = {served(a), served(b)};
      }
    for (const ScheduledSequence& scheduled : plan.sequences)
      tenant_of(*scheduled.sequence).num_served += scheduled.num_tokens;
    compare();
    finish(plan);
  }

 private:
  struct Tenant {
    std::int32_t longest_prompt = 0;
    std::int32_t num_wanted = 0, num_queued = 0;  // requests: that it wants to have there, that are
    std::int64_t num_served = 0;
  };
  struct Race {
    std::int64_t a = 0, b = 0;
  };

  std::int32_t between(std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }
  Tenant& tenant_of(const Sequence& sequence) {
    return tenants_[static_cast<std::size_t>(sequence.id) % tenants_.size()];
  }
  static std::string name(std::size_t tenant) { return std::string(1, static_cast<char>('a' + tenant)); }

  void submit(std::size_t tenant) {
    SequenceSpec spec;
    spec.id = static_cast<SequenceId>(num_submitted_++ * tenants_.size() + tenant);
    spec.prompt.resize(static_cast<std::size_t>(between(1, tenants_[tenant].longest_prompt)));
    for (std::int32_t& token : spec.prompt) token = between(0, 1);
    spec.max_num_tokens = between(static_cast<std::int32_t>(spec.prompt.size()) + 1, longest_);
    spec.priority = between(-1, 1);
    spec.tenant = name(tenant);
    ASSERT_NE(scheduler_->add(std::move(spec)).sequence, nullptr);
    ++tenants_[tenant].num_queued;
  }

  // By tenant: has a sequence that waits.
  std::vector<bool> waiting() const {
    std::vector<bool> result(tenants_.size());
    for (const TenantStats& stats : scheduler_->stats().tenants)
      result[static_cast<std::size_t>(stats.name[0] - 'a')] = stats.num_waiting > 0;
    return result;
  }

  void compare() {
    for (std::size_t a = 0; a < tenants_.size(); ++a)
      for (std::size_t b = 0; b < a; ++b) {
        const auto& baseline = baseline_[a * tenants_.size() + b];
        if (!baseline) continue;
        const std::int64_t of_a = served(a) - baseline->a, of_b = served(b) - baseline->b;
        worst_difference = std::max(worst_difference, std::abs(of_a - of_b));
        longest_race = std::max({longest_race, of_a, of_b});
      }
  }

  void finish(const StepPlan& plan) {
    scheduler_->commit(plan);
    for (const ScheduledSequence& scheduled : plan.sequences) {
      Sequence& sequence = *scheduled.sequence;
      if (!scheduled.needs_logits) continue;
      scheduler_->append_token(sequence, between(0, 1));
      if (sequence.num_tokens() < sequence.max_num_tokens && between(0, 19) > 0) continue;
      --tenant_of(sequence).num_queued;
      scheduler_->finish(sequence);
    }
  }

  std::mt19937_64 random_;
  SchedulerOptions options_;
  std::int32_t longest_ = 0;  // request, prompt and answer
  std::optional<BlockAllocator> blocks_;
  std::optional<PrefixCache> cache_;
  std::optional<Scheduler> scheduler_;
  std::vector<Tenant> tenants_;
  std::size_t num_submitted_ = 0;
  std::vector<std::optional<Race>> baseline_;  // [a][b]: what both had been served when their race began
};

TEST(Fairness, TenantsThatWaitDifferByNoMoreThanTheBoundWhateverTheyAskFor) {
  int num_long_races = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    TenantWorld world(seed);
    for (int i = 0; i < 3000; ++i) {
      world.step();
      ASSERT_LE(world.worst_difference, world.bound()) << "seed " << seed << " step " << i;
    }
    num_long_races += world.longest_race > 3 * world.bound();
    for (std::size_t tenant = 0; tenant < world.num_tenants(); ++tenant)
      EXPECT_GT(world.served(tenant), 0) << "seed " << seed;
  }
  EXPECT_GT(num_long_races, 50) << "otherwise any order would keep the bound";
}

}  // namespace
}  // namespace redline
