// What a caller submits, and what comes back.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ledger.h"

namespace redline {

class Constraint;

/// Which tokens may be chosen, besides what a constraint says. Shared, since a call may have thousands of
/// answers.
struct TokenRules {
  std::vector<std::uint64_t> allowed{};  // bit t % 64 of word t / 64: whether token t may be; empty: all may
  std::vector<std::vector<std::int32_t>> bad_sequences{};  // their last tokens never follow the others

  void allow(std::int32_t token) {
    const auto at = static_cast<std::size_t>(token);
    if (allowed.size() <= at / 64) allowed.resize(at / 64 + 1);
    allowed[at / 64] |= std::uint64_t{1} << (at % 64);
  }
};

/// How tokens are chosen. The defaults are greedy and off.
struct SamplingParams {
  float temperature = 0.0f;         // 0: greedy
  std::int32_t top_k = 0;           // <= 0: off
  float top_p = 1.0f;               // (0, 1]; 1: off
  float min_p = 0.0f;               // [0, 1]; 0: off
  float repetition_penalty = 1.0f;  // > 0, over prompt and generated tokens; 1: off
  float presence_penalty = 0.0f;    // over generated tokens
  float frequency_penalty = 0.0f;   // over generated tokens, times their count
  std::vector<std::pair<std::int32_t, float>> logit_bias{};
  std::shared_ptr<const TokenRules> token_rules{};  // null: none
  std::uint64_t seed =
      0;  // the same request with the same seed gives the same tokens, whatever runs beside it
  std::int32_t max_tokens = -1;  // -1: to the end of the context; 0: the prompt alone is computed
  std::int32_t min_tokens = 0;   // end tokens and stops are ignored before
  bool ignore_eos = false;
  std::vector<std::int32_t> stop_token_ids{};  // besides the model's own end tokens
  std::vector<std::string> stop{};             // texts; output ends before the first that appears
  bool include_stop_in_output = false;
  std::int32_t num_logprobs = -1;         // -1: none; k: the chosen token's and the k likeliest
  std::int32_t num_prompt_logprobs = -1;  // the same for the prompt's tokens; then no prefix cache is used
  bool skip_special_tokens = true;
  std::vector<std::int32_t> shown_special_tokens{};  // that stay in the text all the same
};

struct RequestUsage;

/// What a request's time is spent on.
enum class RequestTerm : std::uint8_t {
  kReading,        // its caller had it and had not submitted it
  kQueued,         // no step had computed any of it
  kPrefill,        // its share of the device's busy time
  kDecode,         //
  kRecomputation,  // the same, for what it had computed before a preemption
  kOthers,         // the device computed others, beside it or before its turn
  kPreempted,      // none of it ran: others had its blocks
  kGap,            // the device did not execute
};
inline constexpr int kNumRequestTerms = 8;
inline constexpr const char* kRequestTermNames[kNumRequestTerms] = {
    "reading", "queued", "prefill", "decode", "recomputation", "others", "preempted", "gap"};

/// Nanoseconds by term.
struct RequestTimes {
  std::array<std::int64_t, kNumRequestTerms> ns{};

  std::int64_t& operator[](RequestTerm term) { return ns[static_cast<std::size_t>(term)]; }
  std::int64_t operator[](RequestTerm term) const { return ns[static_cast<std::size_t>(term)]; }
  std::int64_t sum() const {
    std::int64_t sum = 0;
    for (const std::int64_t each : ns) sum += each;
    return sum;
  }
  RequestTimes& operator+=(const RequestTimes& other) {
    for (std::size_t i = 0; i < ns.size(); ++i) ns[i] += other.ns[i];
    return *this;
  }
};

/// An immutable submission.
struct Request {
  std::vector<std::int32_t> prompt{};  // token ids, at least one
  SamplingParams sampling;
  std::int32_t n = 1;         // independent answers; they share the prompt's cache
  std::int32_t priority = 0;  // lower runs first among the tenant's
  std::string tenant{};       // tenants are served alike, share no cached prefixes, and have limits
  std::string cache_salt{};   // only a tenant's requests with the same salt share cached prefixes
  bool use_prefix_cache = true;
  std::int64_t received_ns = 0;              // steady clock: when the caller got it; 0: as it is submitted
  std::shared_ptr<Constraint> constraint{};  // what every answer must look like; null: anything
  // Called on the engine's thread once its last answer has ended, however it did: must return at once.
  std::function<void(const RequestUsage&)> on_end{};
};

enum class FinishReason : std::uint8_t { kNone, kStop, kLength, kAborted, kError };
/// "stop", "length", "abort", "error"; "" while running.
const char* name(FinishReason reason);

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0;
};

/// A piece of one answer. Text never splits a UTF-8 character, and holds nothing of a stop string.
struct OutputEvent {
  std::int32_t index = 0;  // which of the n answers
  std::vector<std::int32_t> token_ids{};
  std::string text{};
  std::vector<std::vector<TokenLogprob>> logprobs{};  // per token: the chosen one first, then the likeliest
  // Of the prompt, per token but the first, likewise; with the first event of answer 0.
  std::vector<std::vector<TokenLogprob>> prompt_logprobs{};
  FinishReason finish_reason = FinishReason::kNone;
  std::string stop_matched{};  // the stop string that ended it
  std::string error{};         // with kError
  std::int64_t time_ns = 0;    // steady clock: when the step that made it ended
};

/// What a finished or running request has cost: each step's totals are the sum of its requests' shares.
struct RequestUsage {
  std::int64_t id = 0;  // of the request, its engine's own; 0: no step has seen it
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;     // of them, found in the prefix cache
  std::int64_t generated_tokens = 0;  // all answers
  Counts prefill, decode;
  // Of the device's busy time, by phase: attributed (meter/attribution.h), so that requests sum to the steps.
  std::array<double, kNumPhases> device_ns{};
  std::optional<double> joules{};   // likewise of its energy; nothing where no sensor tells
  std::int64_t received_ns = 0;     // steady clock: Request::received_ns, else arrival_ns
  std::int64_t arrival_ns = 0;      // submitted
  std::int64_t scheduled_ns = 0;    // its first step began; 0: it has not
  std::int64_t first_token_ns = 0;  // 0: none yet
  std::int64_t finish_ns = 0;
  FinishReason finish_reason = FinishReason::kNone;  // of the answer that ended last
  RequestTimes times;  // once it has ended: they sum to the time from received_ns to finish_ns
};

}  // namespace redline
