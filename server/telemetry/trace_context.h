// Which trace a call belongs to: W3C Trace Context (www.w3.org/TR/trace-context).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/telemetry/span.h"

namespace redline::server {

struct TraceContext {
  TraceId trace{};
  SpanId parent{};
  bool is_sampled = false;
};

/// The header `traceparent`; nothing where it is not what the standard says.
std::optional<TraceContext> parse_traceparent(std::string_view header);

/// Random, never all zeros.
TraceId new_trace_id();
SpanId new_span_id();

/// Lower-case hexadecimal digits.
std::string hex(const std::uint8_t* bytes, std::size_t count);

/// Which calls are told of, by what OTEL_TRACES_SAMPLER calls it.
struct Sampler {
  bool follows_parent = true;  // a caller's decision holds where there is one
  double share = 1;            // of the others, by their trace's id

  bool samples(const TraceId& trace, const std::optional<TraceContext>& caller) const;
};

}  // namespace redline::server
