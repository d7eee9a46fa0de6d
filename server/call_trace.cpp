#include "server/call_trace.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "engine/meter/utilization.h"

namespace redline::server {
namespace {

template <class AnyClock>
std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(AnyClock::now().time_since_epoch()).count();
}

std::int64_t steady_ns() { return now_ns<std::chrono::steady_clock>(); }

constexpr std::size_t kMaxTraceStateBytes = 512;  // that the standard wants kept

double seconds(double ns) { return ns * 1e-9; }

}  // namespace

CallTrace::CallTrace(const Telemetry& telemetry, const DevicePeaks& peaks, const HttpRequest& request,
                     const std::string& tenant)
    : telemetry_(telemetry),
      peaks_(peaks),
      arrival_ns_(steady_ns()),
      unix_offset_ns_(now_ns<std::chrono::system_clock>() - arrival_ns_) {
  if (!telemetry.exporter) return;
  const auto caller = parse_traceparent(request.header("traceparent"));
  span_.trace = caller ? caller->trace : new_trace_id();
  is_told_ = telemetry.exporter->options().sampler.samples(span_.trace, caller);
  if (!is_told_) return;
  span_.id = new_span_id();
  span_.kind = SpanKind::kServer;
  span_.start_ns = unix_ns(arrival_ns_);
  if (caller) {
    span_.parent = caller->parent;
    span_.parent_is_remote = true;
    const std::string_view state = request.header("tracestate");
    if (state.size() <= kMaxTraceStateBytes) span_.trace_state = state;
  }
  span_.name = request.path.ends_with("/chat/completions") ? "chat" : "text_completion";
  span_.attributes = {{"gen_ai.operation.name", span_.name},
                      {"gen_ai.provider.name", std::string("redline")},
                      {"redline.tenant", tenant},
                      {"server.address", telemetry.address}};
  if (telemetry.port != 0) span_.attributes.emplace_back("server.port", std::int64_t{telemetry.port});
}

void CallTrace::begin(const Call& call, const Generation& generation) {
  if (!is_told_) return;
  generation_ = &generation;
  num_prompts_ = call.requests.size();
  streams_ = call.stream;
  span_.name += " " + call.model;
  const Request& request = call.requests.front();
  const SamplingParams& sampling = request.sampling;
  Attributes& attributes = span_.attributes;
  attributes.emplace_back("gen_ai.request.model", call.model);
  attributes.emplace_back("gen_ai.response.model", call.model);
  if (call.stream) attributes.emplace_back("gen_ai.request.stream", true);
  if (sampling.max_tokens >= 0)
    attributes.emplace_back("gen_ai.request.max_tokens", std::int64_t{sampling.max_tokens});
  attributes.emplace_back("gen_ai.request.temperature", double{sampling.temperature});
  attributes.emplace_back("gen_ai.request.top_p", double{sampling.top_p});
  if (sampling.top_k > 0) attributes.emplace_back("gen_ai.request.top_k", double(sampling.top_k));
  if (sampling.frequency_penalty != 0)
    attributes.emplace_back("gen_ai.request.frequency_penalty", double{sampling.frequency_penalty});
  if (sampling.presence_penalty != 0)
    attributes.emplace_back("gen_ai.request.presence_penalty", double{sampling.presence_penalty});
  if (request.n != 1) attributes.emplace_back("gen_ai.request.choice.count", std::int64_t{request.n});
}

void CallTrace::finish(const Reply& reply) {
  if (!is_told_) return;
  span_.attributes.emplace_back("gen_ai.response.id", reply.id());
  span_.attributes.emplace_back("gen_ai.response.finish_reasons", reply.finish_reasons());
}

void CallTrace::fail(const ApiError& error) {
  if (client_is_lost_) return;  // it is told nothing any more
  error_ = error.code();
  status_ = error.status();
}

void CallTrace::lose_client() {
  client_is_lost_ = true;
  error_ = "client_disconnected";
  status_ = 0;
}

// A client's mistake is no failure of the server's span, by the conventions.
void CallTrace::add_error() {
  if (error_.empty()) return;
  span_.attributes.emplace_back("error.type", error_);
  if (status_ != 0) span_.attributes.emplace_back("http.response.status_code", std::int64_t{status_});
  span_.failed = status_ >= 500;
}

// Of the device's time that it took, the share that its useful FLOPs would take at the peak is its MFU.
void CallTrace::add_work(Attributes& attributes, const Counts& counts, double device_ns) const {
  attributes.emplace_back("redline.flops", counts.executed_flops());
  attributes.emplace_back("redline.bytes", counts.min_bytes() + counts.wasted_bytes);
  attributes.emplace_back("redline.device_seconds", seconds(device_ns));
  if (device_ns <= 0) return;
  for (const auto& [basis, peaks] :
       {std::pair{PeakBasis::kVendor, peaks_.vendor()}, {PeakBasis::kAttainable, peaks_.attainable()}})
    if (const auto compute_s = seconds_at(peaks, counts.flops_by_type)) {
      attributes.emplace_back("redline.mfu", *compute_s / seconds(device_ns));
      attributes.emplace_back("redline.peak_basis",
                              std::string(kPeakBasisNames[static_cast<std::size_t>(basis)]));
      return;
    }
}

void CallTrace::add_usage(std::int64_t end_ns) {
  const RequestUsage usage = generation_->usage();
  Attributes& attributes = span_.attributes;
  attributes.emplace_back("gen_ai.usage.input_tokens", usage.prompt_tokens);
  attributes.emplace_back("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
  attributes.emplace_back("gen_ai.usage.output_tokens", usage.generated_tokens);
  Counts counts = usage.prefill;
  counts += usage.decode;
  add_work(attributes, counts, usage.device_ns[0] + usage.device_ns[1]);
  if (usage.joules) attributes.emplace_back("redline.joules", *usage.joules);
  for (std::size_t term = 0; term < kNumRequestTerms; ++term)
    attributes.emplace_back(std::string("redline.time.") + kRequestTermNames[term],
                            seconds(static_cast<double>(usage.times.ns[term])));
  std::int64_t first_token_ns = end_ns;
  bool has_token = false;
  for (std::size_t prompt = 0; prompt < num_prompts_; ++prompt)
    if (const std::int64_t ns = generation_->usage(prompt).first_token_ns; ns > 0) {
      first_token_ns = std::min(first_token_ns, ns);
      has_token = true;
    }
  if (has_token && streams_)
    attributes.emplace_back("gen_ai.response.time_to_first_chunk",
                            seconds(static_cast<double>(first_token_ns - arrival_ns_)));
}

Span CallTrace::child(const char* name, std::int64_t start_ns, std::int64_t end_ns) const {
  Span span;
  span.trace = span_.trace;
  span.trace_state = span_.trace_state;
  span.id = new_span_id();
  span.parent = span_.id;
  span.name = name;
  span.start_ns = unix_ns(start_ns);
  span.end_ns = unix_ns(std::max(start_ns, end_ns));
  return span;
}

void CallTrace::add_children(std::vector<Span>& spans, std::size_t prompt, std::int64_t end_ns) const {
  const RequestUsage usage = generation_->usage(prompt);
  const auto or_end = [&](std::int64_t ns) {
    return ns > 0 ? ns : usage.finish_ns > 0 ? usage.finish_ns : end_ns;
  };
  const auto first = spans.size();
  spans.push_back(child("queue", usage.arrival_ns, or_end(usage.scheduled_ns)));
  if (usage.scheduled_ns > 0) {
    Span& span = spans.emplace_back(child("prefill", usage.scheduled_ns, or_end(usage.first_token_ns)));
    span.attributes = {{"redline.tokens", usage.prefill.tokens},
                       {"redline.wasted_tokens", usage.prefill.wasted_tokens},
                       {"redline.cached_tokens", usage.cached_tokens}};
    add_work(span.attributes, usage.prefill, usage.device_ns[0]);
  }
  if (usage.first_token_ns > 0) {
    Span& span = spans.emplace_back(child("decode", usage.first_token_ns, or_end(usage.finish_ns)));
    span.attributes = {{"redline.tokens", usage.decode.tokens},
                       {"redline.wasted_tokens", usage.decode.wasted_tokens}};
    add_work(span.attributes, usage.decode, usage.device_ns[1]);
  }
  if (num_prompts_ > 1)
    for (std::size_t i = first; i < spans.size(); ++i)
      spans[i].attributes.emplace_back("redline.prompt", static_cast<std::int64_t>(prompt));
}

void CallTrace::tell() {
  const std::int64_t end_ns = steady_ns();
  span_.end_ns = unix_ns(end_ns);
  if (generation_) add_usage(end_ns);
  add_error();
  std::vector<Span> spans(1);
  for (std::size_t prompt = 0; prompt < std::min(num_prompts_, kMaxPrompts); ++prompt)
    add_children(spans, prompt, end_ns);
  spans.front() = std::move(span_);
  telemetry_.exporter->add(std::move(spans));
}

CallTrace::~CallTrace() {
  if (!is_told_) return;
  try {
    tell();
  } catch (const std::bad_alloc&) {  // the call itself is none the worse for it
  }
}

}  // namespace redline::server
