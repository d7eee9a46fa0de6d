#include "scheduler/step_budget.h"

#include <algorithm>

namespace redline {

void StepLoad::add_decode(std::int64_t num_cached) {
  ++num_decodes;
  num_decode_cached += num_cached;
}

void StepLoad::add_chunk(std::int64_t num_tokens, std::int64_t num_cached) {
  ++num_prompts;
  num_prompt_tokens += num_tokens;
  num_prompt_cached += num_cached;
}

std::int32_t StepBudget::chunk(const Sequence& sequence, std::int32_t num_wanted) const {
  const std::int32_t num_most = std::min(num_wanted, tokens_left_);
  const auto fits = [&](std::int32_t num_tokens) {
    StepLoad then = load_;
    then.add_chunk(num_tokens, sequence.num_computed_tokens);
    return seconds_(then) <= target_s_;
  };
  if (target_s_ <= 0 || num_most <= 0 || fits(num_most)) return num_most;
  std::int32_t low = 0, high = num_most;  // low fits, high does not
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  const std::int32_t num_least = load_.num_prompts == 0 ? std::min(num_most, kLeastChunk) : 0;
  return std::max(low, num_least);
}

void StepBudget::take(const Sequence& sequence, std::int32_t num_tokens, bool is_decode) {
  tokens_left_ -= num_tokens;
  if (is_decode)
    load_.add_decode(sequence.num_computed_tokens);
  else
    load_.add_chunk(num_tokens, sequence.num_computed_tokens);
}

void StepBudget::add_running(const Sequence& sequence) {
  for (std::int32_t i = 0; i < sequence.num_seats; ++i) running_.add_decode(sequence.num_tokens());
}

bool StepBudget::admits(const Sequence& sequence) const {
  if (target_s_ <= 0 || running_.num_decodes == 0) return true;
  StepLoad then = running_;
  for (std::int32_t i = 0; i < sequence.num_seats; ++i) then.add_decode(sequence.num_tokens());
  then.add_chunk(kLeastChunk, sequence.num_tokens());
  return seconds_(then) <= target_s_;
}

}  // namespace redline
