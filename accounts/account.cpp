#include "accounts/account.h"

#include <chrono>
#include <cstdio>
#include <random>

namespace redline {

std::string new_run_id() {
  std::random_device random;
  char text[17];
  std::snprintf(text, sizeof text, "%08x%08x", static_cast<unsigned>(random()),
                static_cast<unsigned>(random()));
  return text;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void set_usage(CallAccount& account, const RequestUsage& usage) {
  account.prompt_tokens = usage.prompt_tokens;
  account.cached_tokens = usage.cached_tokens;
  account.generated_tokens = usage.generated_tokens;
  account.joules = usage.joules;
  const Counts* by_phase[kNumPhases] = {&usage.prefill, &usage.decode};
  for (std::size_t phase = 0; phase < kNumPhases; ++phase) {
    account.flops[phase] = by_phase[phase]->executed_flops();
    account.bytes[phase] = by_phase[phase]->min_bytes() + by_phase[phase]->wasted_bytes;
    account.device_s[phase] = usage.device_ns[phase] * 1e-9;
  }
}

}  // namespace redline
