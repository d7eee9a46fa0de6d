// What telemetry is made of: one thing that took some time, and what is known of it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace redline::server {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

using AttributeValue = std::variant<std::string, std::int64_t, double, bool, std::vector<std::string>>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

/// The values are OTLP's.
enum class SpanKind : std::uint8_t { kInternal = 1, kServer = 2 };

struct Span {
  TraceId trace{};
  SpanId id{}, parent{};  // no parent: zeros
  bool parent_is_remote = false;
  std::string trace_state{};  // W3C's, as it came
  std::string name{};
  SpanKind kind = SpanKind::kInternal;
  std::int64_t start_ns = 0, end_ns = 0;  // since 1970
  Attributes attributes{};
  bool failed = false;  // by the server's fault
};

}  // namespace redline::server
