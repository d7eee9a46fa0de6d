#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/constraint/constraint.h"
#include "engine/draw.h"

namespace redline {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr std::size_t kLanes = 16;

// A bijective mix of 64 bits (the finaliser of MurmurHash3, with Stafford's thirteenth constants).
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Forbids the tokens whose bit is not set.
void keep_only(std::span<float> logits, std::span<const std::uint64_t> words) {
  for (std::size_t begin = 0; begin < logits.size(); begin += 64) {
    const std::uint64_t word = begin / 64 < words.size() ? words[begin / 64] : 0;
    if (word == ~std::uint64_t{0}) continue;
    const std::size_t end = std::min(begin + 64, logits.size());
    if (word == 0) {
      std::fill(logits.begin() + static_cast<std::ptrdiff_t>(begin),
                logits.begin() + static_cast<std::ptrdiff_t>(end), kForbidden);
      continue;
    }
    for (std::size_t i = begin; i < end; ++i)
      if ((word >> (i - begin) & 1) == 0) logits[i] = kForbidden;
  }
}

struct Limits {
  const char* field;
  double value, low, high;
};

}  // namespace

std::optional<std::string> invalid_sampling(const SamplingParams& p, std::int64_t vocab_size) {
  const Limits limits[] = {
      {"temperature", p.temperature, 0, 100},
      {"top_p", p.top_p, 0, 1},
      {"min_p", p.min_p, 0, 1},
      {"repetition_penalty", p.repetition_penalty, 1e-3, 1e3},
      {"presence_penalty", p.presence_penalty, -1e3, 1e3},
      {"frequency_penalty", p.frequency_penalty, -1e3, 1e3},
      {"num_logprobs", static_cast<double>(p.num_logprobs), -1, static_cast<double>(vocab_size)},
      {"num_prompt_logprobs", static_cast<double>(p.num_prompt_logprobs), -1,
       static_cast<double>(vocab_size)},
      {"min_tokens", static_cast<double>(p.min_tokens), 0, 1e9},
      {"max_tokens", static_cast<double>(p.max_tokens), -1, 2147483647},
  };
  const auto describe = [](const Limits& l) {
    const auto text = [](double v) {
      std::string s = std::to_string(v);
      s.erase(s.find_last_not_of('0') + 1);
      if (s.back() == '.') s.pop_back();
      return s;
    };
    return std::string(l.field) + " is " + text(l.value) + ", allowed are " + text(l.low) + " to " +
           text(l.high);
  };
  for (const Limits& l : limits)
    if (!(l.value >= l.low && l.value <= l.high)) return describe(l);
  const auto is_token = [&](std::int32_t id) { return id >= 0 && id < vocab_size; };
  const auto describe_token = [&](const char* field, std::int32_t id) {
    return describe({field, static_cast<double>(id), 0, static_cast<double>(vocab_size - 1)});
  };
  if (p.token_rules)
    for (const auto& bad : p.token_rules->bad_sequences) {
      if (bad.empty()) return "bad_sequences holds an empty one";
      for (const std::int32_t id : bad)
        if (!is_token(id)) return describe_token("a token of bad_sequences", id);
    }
  for (const auto& [token, bias] : p.logit_bias) {
    if (!is_token(token)) return describe_token("logit_bias token", token);
    if (!(bias >= -1e6f && bias <= 1e6f)) return describe({"logit_bias", bias, -1e6, 1e6});
  }
  return std::nullopt;
}

SharedSampling::SharedSampling(SamplingParams with, std::span<const std::int32_t> prompt)
    : params(std::move(with)) {
  if (params.repetition_penalty == 1.0f) return;
  prompt_tokens.assign(prompt.begin(), prompt.end());
  std::ranges::sort(prompt_tokens);
  const auto repeated = std::ranges::unique(prompt_tokens);
  prompt_tokens.erase(repeated.begin(), repeated.end());
  prompt_tokens.shrink_to_fit();
}

Sampler::Sampler(std::shared_ptr<const SharedSampling> shared, std::int32_t answer_index,
                 std::span<const std::int32_t> end_tokens)
    : shared_(std::move(shared)),
      params_(shared_->params),
      end_tokens_(end_tokens.begin(), end_tokens.end()),
      stream_(mix(params_.seed + 0x9e3779b97f4a7c15u) ^ mix(static_cast<std::uint64_t>(answer_index))) {}

// What repetition_penalty counts, each token once.
std::vector<std::int32_t> Sampler::seen() const {
  if (params_.repetition_penalty == 1.0f) return {};
  std::vector<std::int32_t> tokens = shared_->prompt_tokens;
  for (const auto& [token, times] : generated_)
    if (!std::ranges::binary_search(shared_->prompt_tokens, token)) tokens.push_back(token);
  return tokens;
}

// What may not be chosen now, whatever its logit: tokens that end, before min_tokens, and those that would
// complete a bad sequence.
std::vector<std::int32_t> Sampler::forbidden(std::size_t vocab_size) const {
  std::vector<std::int32_t> tokens;
  if (num_generated_ < static_cast<std::uint64_t>(params_.min_tokens)) {
    tokens = end_tokens_;
    for (const std::int32_t token : params_.stop_token_ids)
      if (token >= 0 && token < static_cast<std::int64_t>(vocab_size)) tokens.push_back(token);
  }
  if (!params_.token_rules) return tokens;
  for (const auto& bad : params_.token_rules->bad_sequences) {
    const auto begin = std::span(bad).first(bad.size() - 1);
    if (begin.size() <= tokens_.size() && std::ranges::equal(begin, std::span(tokens_).last(begin.size())))
      tokens.push_back(bad.back());
  }
  return tokens;
}

std::span<const std::uint64_t> Sampler::allowed() const {
  if (!params_.token_rules) return {};
  return params_.token_rules->allowed;
}

void Sampler::penalize(std::span<float> logits) const {
  for (const auto& [token, bias] : params_.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
  for (const std::int32_t token : seen()) {
    float& x = logits[static_cast<std::size_t>(token)];
    x = x > 0 ? x / params_.repetition_penalty : x * params_.repetition_penalty;
  }
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0)
    for (const auto& [token, times] : generated_)
      logits[static_cast<std::size_t>(token)] -=
          params_.presence_penalty + params_.frequency_penalty * static_cast<float>(times);
  for (const std::int32_t token : forbidden(logits.size()))
    logits[static_cast<std::size_t>(token)] = kForbidden;
}

void Sampler::restrict(std::span<float> logits, const TokenMask& allowed, bool may_end) const {
  std::vector<std::pair<std::size_t, float>> ends;
  const auto keep = [&](std::int32_t token) {
    const auto at = static_cast<std::size_t>(token);
    if (token >= 0 && at < logits.size()) ends.emplace_back(at, logits[at]);
  };
  if (may_end) {
    if (!params_.ignore_eos) std::ranges::for_each(end_tokens_, keep);
    std::ranges::for_each(params_.stop_token_ids, keep);
  }
  keep_only(logits, allowed.words());
  for (const auto& [at, value] : ends) logits[at] = value;
}

Sampler::Choice Sampler::sample(std::span<float> logits, const TokenMask* allowed, bool may_end) {
  Choice choice;
  std::vector<float> own;  // the model's own distribution, kept where penalties would hide it
  const bool is_masked = allowed || !this->allowed().empty();  // broken logits must not hide behind a mask
  if ((is_masked || params_.num_logprobs >= 0) && argmax(logits) < 0) return choice;
  if (params_.num_logprobs >= 0) own.assign(logits.begin(), logits.end());
  if (allowed) restrict(logits, *allowed, may_end);
  if (const auto words = this->allowed(); !words.empty()) keep_only(logits, words);
  penalize(logits);
  choice.token = argmax(logits);
  if (choice.token < 0 || logits[static_cast<std::size_t>(choice.token)] == kForbidden) return {};
  if (params_.temperature > 0)
    choice.token = draw(logits, logits[static_cast<std::size_t>(choice.token)],
                        {.temperature = params_.temperature,
                         .top_k = params_.top_k,
                         .top_p = params_.top_p,
                         .min_p = params_.min_p},
                        uniform());
  if (params_.num_logprobs >= 0) choice.logprobs = logprobs_of(own, choice.token, params_.num_logprobs);
  note(choice.token);
  return choice;
}

void Sampler::note(std::int32_t token) {
  generated_[token] += 1;
  if (params_.token_rules && !params_.token_rules->bad_sequences.empty()) tokens_.push_back(token);
  num_generated_ += 1;
}

// What penalize() does, token by token.
std::vector<LogitEdit> Sampler::edits(std::size_t vocab_size) const {
  std::unordered_map<std::int32_t, LogitEdit> edits;
  for (const auto& [token, bias] : params_.logit_bias) edits[token].bias += bias;
  for (const std::int32_t token : seen()) edits[token].repetition_penalty = params_.repetition_penalty;
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0)
    for (const auto& [token, times] : generated_)
      edits[token].subtract =
          params_.presence_penalty + params_.frequency_penalty * static_cast<float>(times);
  for (const std::int32_t token : forbidden(vocab_size)) edits[token].is_forbidden = true;
  std::vector<LogitEdit> list;
  list.reserve(edits.size());
  for (auto& [token, edit] : edits) {
    edit.token = token;
    list.push_back(edit);
  }
  return list;
}

ChoiceRequest Sampler::ask(std::int32_t row, std::size_t vocab_size, const TokenMask* allowed, bool may_end) {
  ChoiceRequest request;
  request.row = row;
  request.temperature = params_.temperature;
  request.top_k = params_.top_k;
  request.top_p = params_.top_p;
  request.min_p = params_.min_p;
  if (params_.temperature > 0) request.uniform = uniform();
  request.edits = edits(vocab_size);
  if (allowed) {
    request.allowed.assign(allowed->words().begin(), allowed->words().end());
    request.allowed.resize((vocab_size + 63) / 64);
    const auto allow = [&](std::int32_t token) {
      const auto at = static_cast<std::size_t>(token);
      if (token >= 0 && at < vocab_size) request.allowed[at / 64] |= std::uint64_t{1} << (at % 64);
    };
    if (may_end) {
      if (!params_.ignore_eos) std::ranges::for_each(end_tokens_, allow);
      std::ranges::for_each(params_.stop_token_ids, allow);
    }
  }
  const auto words = this->allowed();
  if (request.allowed.empty()) request.allowed.assign(words.begin(), words.end());
  if (!words.empty())
    for (std::size_t i = 0; i < request.allowed.size(); ++i)
      request.allowed[i] &= i < words.size() ? words[i] : 0;
  request.num_logprobs = params_.num_logprobs;
  return request;
}

Sampler::Choice Sampler::take(const ChosenToken& chosen) {
  Choice choice;
  choice.token = chosen.token;
  if (choice.token < 0) return choice;
  if (params_.num_logprobs >= 0) choice.logprobs = logprobs_of(chosen);
  note(choice.token);
  return choice;
}

double Sampler::uniform() {
  return static_cast<double>(mix(stream_ + (num_generated_ + 1) * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

std::int32_t argmax(std::span<const float> values) {
  float best[kLanes],
      poison[kLanes] = {};  // lanes that the compiler turns into vectors; x * 0 is NaN for NaN
  std::fill(std::begin(best), std::end(best), kForbidden);
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float x = values[i + j];
      best[j] = x > best[j] ? x : best[j];
      poison[j] += x == x ? 0.0f : 1.0f;
    }
  float top = kForbidden, bad = 0;
  for (std::size_t j = 0; j < kLanes; ++j) top = std::max(top, best[j]), bad += poison[j];
  for (; i < values.size(); ++i) {
    top = values[i] > top ? values[i] : top;
    bad += values[i] == values[i] ? 0.0f : 1.0f;
  }
  if (bad > 0 || top == std::numeric_limits<float>::infinity()) return -1;
  return static_cast<std::int32_t>(std::find(values.begin(), values.end(), top) - values.begin());
}

double log_sum_exp(std::span<const float> values) {
  const float top = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const float x : values) sum += std::exp(static_cast<double>(x) - static_cast<double>(top));
  return static_cast<double>(top) + std::log(sum);
}

std::vector<TokenLogprob> logprobs_of(std::span<const float> logits, std::int32_t token, std::int32_t count) {
  std::vector<TokenLogprob> logprobs;
  if (argmax(logits) < 0) return logprobs;
  const double normalizer = log_sum_exp(logits);
  const auto add = [&](std::int32_t id) {
    logprobs.push_back({id, static_cast<float>(logits[static_cast<std::size_t>(id)] - normalizer)});
  };
  add(token);
  std::ranges::for_each(likeliest(logits, static_cast<std::size_t>(count)), add);
  return logprobs;
}

// A choice that leaves no choice.
ChoiceRequest ask_logprobs(std::int32_t row, std::int32_t token, std::int32_t count, std::size_t vocab_size) {
  ChoiceRequest request;
  request.row = row;
  request.allowed.resize((vocab_size + 63) / 64);
  request.allowed[static_cast<std::size_t>(token) / 64] = std::uint64_t{1} << (token % 64);
  request.num_logprobs = count;
  return request;
}

std::vector<TokenLogprob> logprobs_of(const ChosenToken& chosen) {
  std::vector<TokenLogprob> logprobs;
  if (chosen.token < 0) return logprobs;
  const auto add = [&](std::int32_t token, float logit) {
    logprobs.push_back({token, static_cast<float>(static_cast<double>(logit) - chosen.log_sum_exp)});
  };
  add(chosen.token, chosen.logit);
  for (const auto& [token, logit] : chosen.likeliest) add(token, logit);
  return logprobs;
}

}  // namespace redline
