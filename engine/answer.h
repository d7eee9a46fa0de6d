// One answer being generated: chooses its tokens, turns them into text, and knows when it ends.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/constraint/constraint.h"
#include "engine/constraint/mask_worker.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/tokenizer/detokenizer.h"

namespace redline {

/// Holds text back while it may still become one of the stop strings.
class StopMatcher {
 public:
  /// Keeps a reference to `stops`.
  StopMatcher(const std::vector<std::string>& stops, bool include_stop);

  /// Appends `text`; returns what can be shown now. After a match, everything up to it (and it, with
  /// include_stop).
  std::string add(const std::string& text);
  /// What is still held back; the answer ended without a match.
  std::string flush();
  /// The stop that appeared first; empty until one has.
  const std::string& matched() const { return matched_; }

 private:
  const std::vector<std::string>& stops_;
  bool include_stop_;
  std::string held_, matched_;
};

class Answer {
 public:
  /// `tokenizer` may be null: then there is no text; `constraint` too. `max_tokens` is what the context
  /// leaves at most.
  Answer(const std::shared_ptr<const SharedSampling>& sampling, std::shared_ptr<Constraint> constraint,
         std::int32_t index, std::int32_t max_tokens, const Tokenizer* tokenizer,
         std::span<const std::int32_t> end_tokens);
  /// An answer alone.
  Answer(const Request& request, std::int32_t index, std::int32_t max_tokens, const Tokenizer* tokenizer,
         std::span<const std::int32_t> end_tokens)
      : Answer(std::make_shared<SharedSampling>(request.sampling, request.prompt), request.constraint, index,
               max_tokens, tokenizer, end_tokens) {}

  /// Has `worker` find out which tokens may come next, for step() to wait for; nothing where all may.
  void look_ahead(MaskWorker& worker);
  /// Chooses a token from `logits` [V] (changed in place) and reports it. finish_reason is kError on bad
  /// logits, and where the request's constraint cannot go on. Where a constrained text is complete the answer
  /// ends at once, with its last token.
  OutputEvent step(std::span<float> logits);
  /// The same in two parts, where a backend chooses: what to ask about row `row` of its logits, and what it
  /// chose.
  ChoiceRequest ask(std::int32_t row, std::size_t vocab_size);
  OutputEvent step(const ChosenToken& chosen);
  /// The last event of an answer that ends from outside.
  OutputEvent end(FinishReason reason, std::string error = {});

 private:
  /// What the constraint allows now; throws ConstraintError where that is nothing.
  NextTokens allowed_now();
  Sampler::Choice choose(std::span<float> logits);
  OutputEvent report(Sampler::Choice choice);
  bool is_end_token(std::int32_t token) const;
  FinishReason reason_to_end(std::int32_t token) const;

  std::shared_ptr<const SharedSampling> sampling_;
  const SamplingParams& params_;
  std::int32_t index_, max_tokens_;
  std::vector<std::int32_t> end_tokens_;
  Sampler sampler_;
  std::optional<Matcher> matcher_;  // where the text stands in the request's grammar
  std::future<NextTokens> next_;    // what it allows there, if looked ahead
  NextTokens asked_;                // what it allows of a choice that is asked for
  std::string refusal_;             // why nothing could be asked for
  std::optional<Detokenizer> detokenizer_;
  StopMatcher stops_;
  std::int32_t num_generated_ = 0;
};

}  // namespace redline
