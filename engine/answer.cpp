#include "engine/answer.h"

#include <algorithm>

namespace redline {

StopMatcher::StopMatcher(const std::vector<std::string>& stops, bool include_stop)
    : stops_(stops), include_stop_(include_stop) {}

std::string StopMatcher::add(const std::string& text) {
  if (!matched_.empty()) return {};
  held_ += text;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at < first) first = at, matched_ = stop;
  }
  if (!matched_.empty()) {
    std::string shown = held_.substr(0, first) + (include_stop_ ? matched_ : std::string());
    held_.clear();
    return shown;
  }
  std::size_t keep = 0;  // the longest end of the text that begins a stop
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

Answer::Answer(const std::shared_ptr<const SharedSampling>& sampling, std::shared_ptr<Constraint> constraint,
               std::int32_t index, std::int32_t max_tokens, const Tokenizer* tokenizer,
               std::span<const std::int32_t> end_tokens)
    : sampling_(sampling),
      params_(sampling->params),
      index_(index),
      max_tokens_(max_tokens),
      end_tokens_(end_tokens.begin(), end_tokens.end()),
      sampler_(sampling, index, end_tokens),
      stops_(params_.stop, params_.include_stop_in_output) {
  if (params_.max_tokens >= 0) max_tokens_ = std::min(max_tokens_, params_.max_tokens);
  if (constraint) matcher_.emplace(std::move(constraint));
  if (tokenizer)
    detokenizer_.emplace(*tokenizer, params_.skip_special_tokens, Detokenizer::Begins::kContinuation,
                         params_.shown_special_tokens);
}

void Answer::look_ahead(MaskWorker& worker) {
  if (matcher_) next_ = worker.begin(*matcher_);
}

NextTokens Answer::allowed_now() {
  NextTokens next = next_.valid() ? next_.get() : next_tokens(*matcher_);
  if (!next.may_end && next.allowed->empty())
    throw ConstraintError("no token of the vocabulary goes on as the grammar asks");
  return next;
}

Sampler::Choice Answer::choose(std::span<float> logits) {
  if (!matcher_) return sampler_.sample(logits);
  const auto [allowed, may_end] = allowed_now();
  Sampler::Choice choice = sampler_.sample(logits, allowed.get(), may_end);
  if (choice.token >= 0 && allowed->has(choice.token)) matcher_->advance(choice.token);
  return choice;
}

OutputEvent Answer::step(std::span<float> logits) {
  try {
    return report(choose(logits));
  } catch (const ConstraintError& error) {
    return end(FinishReason::kError, error.what());
  }
}

ChoiceRequest Answer::ask(std::int32_t row, std::size_t vocab_size) {
  if (!matcher_) return sampler_.ask(row, vocab_size);
  try {
    asked_ = allowed_now();
  } catch (const ConstraintError& error) {
    refusal_ = error.what();
    ChoiceRequest any;
    any.row = row;
    return any;
  }
  return sampler_.ask(row, vocab_size, asked_.allowed.get(), asked_.may_end);
}

OutputEvent Answer::step(const ChosenToken& chosen) {
  if (!refusal_.empty()) return end(FinishReason::kError, refusal_);
  Sampler::Choice choice = sampler_.take(chosen);
  try {
    if (matcher_ && choice.token >= 0 && asked_.allowed->has(choice.token)) matcher_->advance(choice.token);
    return report(std::move(choice));
  } catch (const ConstraintError& error) {
    return end(FinishReason::kError, error.what());
  }
}

OutputEvent Answer::report(Sampler::Choice choice) {
  if (choice.token < 0)
    return end(FinishReason::kError,
               "the model's logits hold NaN or infinity, or no token is left to choose");
  if (max_tokens_ == 0) return end(FinishReason::kLength);
  num_generated_ += 1;
  OutputEvent event;
  event.index = index_;
  event.token_ids.push_back(choice.token);
  if (params_.num_logprobs >= 0) event.logprobs.push_back(std::move(choice.logprobs));
  event.finish_reason = reason_to_end(choice.token);
  if (detokenizer_) {
    // An end token ends the answer without being part of its text.
    std::string text = event.finish_reason == FinishReason::kStop && params_.skip_special_tokens
                           ? std::string()
                           : detokenizer_->feed(choice.token);
    if (num_generated_ > params_.min_tokens) {
      event.text = stops_.add(text);
      if (!stops_.matched().empty()) event.finish_reason = FinishReason::kStop;
    } else {
      event.text = std::move(text);
    }
  }
  if (matcher_ && matcher_->complete()) event.finish_reason = FinishReason::kStop;
  if (event.finish_reason != FinishReason::kNone) {
    OutputEvent last = end(event.finish_reason);
    event.text += last.text;
    event.stop_matched = last.stop_matched;
  }
  return event;
}

OutputEvent Answer::end(FinishReason reason, std::string error) {
  OutputEvent event;
  event.index = index_;
  event.finish_reason = reason;
  event.error = std::move(error);
  event.stop_matched = stops_.matched();
  if (detokenizer_ && event.stop_matched.empty())
    event.text = stops_.add(detokenizer_->finish()) + stops_.flush();
  return event;
}

bool Answer::is_end_token(std::int32_t token) const {
  const auto holds = [token](const std::vector<std::int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return (!params_.ignore_eos && holds(end_tokens_)) || holds(params_.stop_token_ids);
}

FinishReason Answer::reason_to_end(std::int32_t token) const {
  if (num_generated_ > params_.min_tokens && is_end_token(token)) return FinishReason::kStop;
  return num_generated_ >= max_tokens_ ? FinishReason::kLength : FinishReason::kNone;
}

}  // namespace redline
