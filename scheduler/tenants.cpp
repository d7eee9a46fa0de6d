#include "scheduler/tenants.h"

#include <algorithm>
#include <limits>

namespace redline {

Tenant& Tenants::of(const std::string& name, std::int32_t most_blocks) {
  const auto [place, is_new] = all_.try_emplace(name);
  if (is_new) place->second.most_blocks = most_blocks;
  return place->second;
}

void Tenants::begin_step() {
  for (auto& [name, tenant] : all_) {
    if (!tenant.backlogged) tenant.virtual_tokens = std::max(tenant.virtual_tokens, clock_);
    tenant.is_cut = tenant.is_held = false;
    tenant.prompts.clear();
    tenant.num_planned_prompts = 0;
    for (Sequence* sequence : tenant.running)
      if (sequence->num_uncomputed() > 1) tenant.prompts.push_back(sequence);
  }
}

Tenant* Tenants::next(bool admits) {
  Tenant* best = nullptr;
  const Sequence* first = nullptr;
  for (auto& [name, tenant] : all_) {
    const Sequence* candidate = nullptr;
    if (tenant.has_prompt())
      candidate = tenant.prompts[tenant.num_planned_prompts];
    else if (admits && !tenant.is_held && !tenant.waiting.empty())
      candidate = *tenant.waiting.begin();
    if (!candidate) continue;
    if (!best || tenant.virtual_tokens < best->virtual_tokens ||
        (tenant.virtual_tokens == best->virtual_tokens && InOrder()(candidate, first)))
      best = &tenant, first = candidate;
  }
  return best;
}

void Tenants::end_step() {
  std::int64_t least = std::numeric_limits<std::int64_t>::max(), most = clock_;
  for (auto& [name, tenant] : all_) {
    tenant.backlogged = tenant.is_cut || tenant.has_prompt() || (!tenant.waiting.empty() && !tenant.is_held);
    if (tenant.backlogged) least = std::min(least, tenant.virtual_tokens);
    most = std::max(most, tenant.virtual_tokens);
  }
  clock_ = std::max(clock_, std::min(least, most));
  std::erase_if(all_, [this](const auto& entry) {
    const Tenant& tenant = entry.second;
    return tenant.running.empty() && tenant.waiting.empty() && tenant.virtual_tokens <= clock_;
  });
}

}  // namespace redline
