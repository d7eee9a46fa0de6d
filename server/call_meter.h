// What clients were given, and how long they waited for it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/generation.h"
#include "server/prometheus.h"

namespace redline::server {

/// What one tenant's calls came to. The tenants' sums are those of the engine once no call is under way.
struct TenantTotals {
  std::int64_t num_requests = 0, num_prompt_tokens = 0, num_generated_tokens = 0;
  std::int64_t flops = 0, bytes = 0;  // executed, in vain or not; of bytes the compulsory kinds
};

/// All calls together. A request is one answer: a call for n answers to each of k prompts counts n k times.
struct AnswerTotals {
  Histogram time_to_first_token{second_bounds()};  // from the call's arrival
  Histogram inter_token_latency{second_bounds()};
  // Of answers that came to their end: since the call's arrival, and of that in the queue, from there to the
  // first token, and from there to the last.
  Histogram e2e_latency{second_bounds()}, queue_time{second_bounds()}, prefill_time{second_bounds()},
      decode_time{second_bounds()};
  std::int64_t num_prompt_tokens = 0;  // of prompts that have been computed
  std::int64_t num_generated_tokens = 0;
  std::array<std::int64_t, 5> num_ended{};  // by FinishReason
  std::int64_t num_stalled_readers = 0;     // cut off: they took nothing of their answers for too long

  /// At most so many tenants have a place of their own; "other" is that of all who come later.
  static constexpr std::size_t kMaxTenants = 64;
  static constexpr const char* kOther = "other";
  std::map<std::string, TenantTotals> tenants;
  TenantTotals& of_tenant(const std::string& tenant);
};

/// One call, from its arrival to its end. Answers that have not ended when it is destroyed were aborted: the
/// client went, or another answer of the call broke.
class CallMeter {
 public:
  /// The call has arrived. `totals` outlive it.
  explicit CallMeter(AnswerTotals& totals, std::string tenant = "default");
  std::int64_t arrival_ns() const { return arrival_ns_; }
  ~CallMeter();
  CallMeter(const CallMeter&) = delete;
  CallMeter& operator=(const CallMeter&) = delete;

  /// It runs. `generation` outlives the meter.
  void begin(const std::vector<Request>& requests, const Generation& generation);
  /// A piece of an answer came: before it is sent.
  void add(const Generation::Piece& piece);

 private:
  struct Answer {
    std::int64_t first_token_ns = 0, last_token_ns = 0;  // 0: none yet
    bool ended = false;
  };
  void add_prompt(std::size_t prompt);
  void add_tokens(const Generation::Piece& piece, Answer& answer);
  void add_end(const Generation::Piece& piece, Answer& answer);

  AnswerTotals& totals_;
  const std::string tenant_;
  const std::int64_t arrival_ns_;
  const Generation* generation_ = nullptr;
  std::vector<std::vector<Answer>> answers_;                       // by prompt
  std::vector<std::int64_t> prompt_tokens_;                        // likewise; 0 once counted
  std::int64_t num_prompt_tokens_ = 0, num_generated_tokens_ = 0;  // counted
};

}  // namespace redline::server
