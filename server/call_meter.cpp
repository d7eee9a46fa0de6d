#include "server/call_meter.h"

#include <chrono>
#include <utility>

namespace redline::server {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double seconds(std::int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

TenantTotals& AnswerTotals::of_tenant(const std::string& tenant) {
  const auto found = tenants.find(tenant);
  if (found != tenants.end()) return found->second;
  return tenants[tenants.size() < kMaxTenants ? tenant : kOther];
}

CallMeter::CallMeter(AnswerTotals& totals, std::string tenant)
    : totals_(totals), tenant_(std::move(tenant)), arrival_ns_(now_ns()) {
  totals_.of_tenant(tenant_);  // from now on it has a label
}

CallMeter::~CallMeter() {
  if (!generation_) return;
  TenantTotals& tenant = totals_.of_tenant(tenant_);
  for (const auto& prompt : answers_)
    for (const Answer& answer : prompt) {
      ++tenant.num_requests;
      if (!answer.ended) ++totals_.num_ended[static_cast<std::size_t>(FinishReason::kAborted)];
    }
  const RequestUsage usage = generation_->usage();
  totals_.num_generated_tokens += usage.generated_tokens - num_generated_tokens_;  // those on their way
  tenant.num_prompt_tokens += num_prompt_tokens_;
  tenant.num_generated_tokens += usage.generated_tokens;
  for (const Counts* counts : {&usage.prefill, &usage.decode}) {
    tenant.flops += counts->executed_flops();
    tenant.bytes += counts->min_bytes() + counts->wasted_bytes;
  }
}

void CallMeter::begin(const std::vector<Request>& requests, const Generation& generation) {
  generation_ = &generation;
  for (const Request& request : requests) {
    answers_.emplace_back(static_cast<std::size_t>(request.n));
    prompt_tokens_.push_back(std::ssize(request.prompt));
  }
}

void CallMeter::add(const Generation::Piece& piece) {
  Answer& answer = answers_[piece.prompt][static_cast<std::size_t>(piece.event.index)];
  const FinishReason reason = piece.event.finish_reason;
  if (!piece.event.token_ids.empty() || reason == FinishReason::kStop || reason == FinishReason::kLength)
    add_prompt(piece.prompt);
  if (!piece.event.token_ids.empty()) add_tokens(piece, answer);
  if (piece.event.finish_reason != FinishReason::kNone) add_end(piece, answer);
}

// Its prompt has been computed.
void CallMeter::add_prompt(std::size_t prompt) {
  const std::int64_t num_tokens = std::exchange(prompt_tokens_[prompt], 0);
  totals_.num_prompt_tokens += num_tokens;
  num_prompt_tokens_ += num_tokens;
}

void CallMeter::add_tokens(const Generation::Piece& piece, Answer& answer) {
  const std::int64_t time_ns = piece.event.time_ns;
  if (answer.last_token_ns == 0) {
    answer.first_token_ns = time_ns;
    totals_.time_to_first_token.observe(seconds(time_ns - arrival_ns_));
  } else {
    totals_.inter_token_latency.observe(seconds(time_ns - answer.last_token_ns));
  }
  answer.last_token_ns = time_ns;
  totals_.num_generated_tokens += std::ssize(piece.event.token_ids);
  num_generated_tokens_ += std::ssize(piece.event.token_ids);
}

void CallMeter::add_end(const Generation::Piece& piece, Answer& answer) {
  const FinishReason reason = piece.event.finish_reason;
  answer.ended = true;
  ++totals_.num_ended[static_cast<std::size_t>(reason)];
  if (answer.last_token_ns == 0 || (reason != FinishReason::kStop && reason != FinishReason::kLength)) return;
  const RequestUsage usage = generation_->usage(piece.prompt);
  totals_.e2e_latency.observe(seconds(piece.event.time_ns - arrival_ns_));
  totals_.queue_time.observe(seconds(usage.scheduled_ns - usage.arrival_ns));
  totals_.prefill_time.observe(seconds(answer.first_token_ns - usage.scheduled_ns));
  totals_.decode_time.observe(seconds(answer.last_token_ns - answer.first_token_ns));
}

}  // namespace redline::server
