// What a step may still take: tokens, and time where its sequences are promised a pace.
#pragma once

#include <cstdint>
#include <functional>

#include "scheduler/sequence.h"

namespace redline {

/// What a step holds, in the sums that its time follows from.
struct StepLoad {
  std::int64_t num_decodes = 0, num_decode_cached = 0;  // sequences that decode; tokens in their caches
  std::int64_t num_prompts = 0, num_prompt_tokens = 0,
               num_prompt_cached = 0;  // chunks; their tokens; tokens in the caches before them

  void add_decode(std::int64_t num_cached);
  void add_chunk(std::int64_t num_tokens, std::int64_t num_cached);
};

/// Seconds from such a step's begin to the next one's. More of anything takes no less.
using StepSeconds = std::function<double(const StepLoad&)>;

/// Fills a step up to its tokens or, where there is a target, to the time that it may take: as near to the
/// device's balance point as that allows, since decode steps lie below it and every token of a prompt is one
/// more row for the weights that are read anyway. Sequences that decode all go on in every step: their number
/// is bounded where they are admitted. The first prompt always gets a little, so that everything ends however
/// tight the target is.
class StepBudget {
 public:
  static constexpr std::int32_t kLeastChunk = 16;

  /// `target_s` 0: tokens alone count, and `seconds` may be empty.
  StepBudget(std::int32_t max_tokens, double target_s, const StepSeconds& seconds)
      : tokens_left_(max_tokens), target_s_(target_s), seconds_(seconds) {}

  std::int32_t tokens_left() const { return tokens_left_; }
  const StepLoad& load() const { return load_; }

  /// Of the `num_wanted` next tokens of a prompt, how many this step may hold: at least one while tokens are
  /// left and no prompt is in it, else maybe none.
  std::int32_t chunk(const Sequence& sequence, std::int32_t num_wanted) const;
  /// Puts tokens into the step.
  void take(const Sequence& sequence, std::int32_t num_tokens, bool is_decode);

  /// A sequence runs, so that it will decode one day.
  void add_running(const Sequence& sequence);
  /// Whether a step in which all that run decode, this sequence too, and a little prompt is computed, would
  /// keep the target. A sequence is always admitted to an empty device.
  bool admits(const Sequence& sequence) const;

 private:
  std::int32_t tokens_left_;
  const double target_s_;
  const StepSeconds& seconds_;
  StepLoad load_;
  StepLoad running_;  // as if all that run decoded
};

}  // namespace redline
