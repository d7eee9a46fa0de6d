// Chooses the next token from a row of logits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "kernels/token_sampling.h"

namespace redline {

class TokenMask;

/// The field of `params` that is out of range, with its value and limits; nothing when all is well.
std::optional<std::string> invalid_sampling(const SamplingParams& params, std::int64_t vocab_size);

/// What the samplers of a request's answers share: there may be thousands.
struct SharedSampling {
  /// `prompt` is what repetition_penalty counts besides generated tokens.
  SharedSampling(SamplingParams params, std::span<const std::int32_t> prompt);

  const SamplingParams params;
  std::vector<std::int32_t> prompt_tokens;  // each once, ascending; only with repetition_penalty
};

/// One answer's sampler. The token chosen at step k of answer i is a function of the logits, the parameters,
/// the tokens so far, and (seed, i, k): never of what runs beside it.
class Sampler {
 public:
  /// `end_tokens` cannot be chosen before min_tokens.
  Sampler(std::shared_ptr<const SharedSampling> shared, std::int32_t answer_index,
          std::span<const std::int32_t> end_tokens);
  /// An answer alone.
  Sampler(const SamplingParams& params, std::int32_t answer_index, std::span<const std::int32_t> prompt,
          std::span<const std::int32_t> end_tokens)
      : Sampler(std::make_shared<SharedSampling>(params, prompt), answer_index, end_tokens) {}

  struct Choice {
    std::int32_t token = -1;  // -1: the logits hold NaN or infinity, or nothing is left to choose
    std::vector<TokenLogprob>
        logprobs;  // of the model's own distribution: the chosen token, then the likeliest
  };
  /// Changes `logits` [V] in place. With `allowed`, tokens that it lacks are out before anything else looks
  /// at the logits, but for end tokens and stop tokens, which `may_end` rules. Logprobs stay those of the
  /// whole vocabulary.
  Choice sample(std::span<float> logits, const TokenMask* allowed = nullptr, bool may_end = true);

  /// The same choice as a request to a backend that chooses from row `row` of its logits; what it chose is
  /// then to be told to take().
  ChoiceRequest ask(std::int32_t row, std::size_t vocab_size, const TokenMask* allowed = nullptr,
                    bool may_end = true);
  Choice take(const ChosenToken& chosen);

 private:
  std::vector<LogitEdit> edits(std::size_t vocab_size) const;
  std::vector<std::int32_t> forbidden(std::size_t vocab_size) const;
  void note(std::int32_t token);
  void restrict(std::span<float> logits, const TokenMask& allowed, bool may_end) const;
  void penalize(std::span<float> logits) const;
  double uniform();
  /// As TokenRules::allowed.
  std::span<const std::uint64_t> allowed() const;

  std::vector<std::int32_t> seen() const;

  std::shared_ptr<const SharedSampling> shared_;
  const SamplingParams& params_;
  std::vector<std::int32_t> end_tokens_;
  std::vector<std::int32_t> tokens_;                          // generated; only with bad sequences
  std::unordered_map<std::int32_t, std::int32_t> generated_;  // token -> times
  std::uint64_t stream_ = 0;
  std::uint64_t num_generated_ = 0;
};

/// Index of the first largest value, or -1 when any value is NaN or +infinity. -infinity marks a forbidden
/// token.
std::int32_t argmax(std::span<const float> values);
/// log(sum(exp(values))), summed in double.
double log_sum_exp(std::span<const float> values);

/// In the distribution that `logits` [V] are: `token`, then the `count` likeliest; empty where they hold NaN
/// or infinity.
std::vector<TokenLogprob> logprobs_of(std::span<const float> logits, std::int32_t token, std::int32_t count);
/// The same as a request to a backend, and what it answered.
ChoiceRequest ask_logprobs(std::int32_t row, std::int32_t token, std::int32_t count, std::size_t vocab_size);
std::vector<TokenLogprob> logprobs_of(const ChosenToken& chosen);

}  // namespace redline
