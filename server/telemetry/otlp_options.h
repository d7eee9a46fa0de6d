// Where spans go, and how: by flag, and by OpenTelemetry's environment variables.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "server/http.h"
#include "server/telemetry/span.h"
#include "server/telemetry/trace_context.h"

namespace redline::server {

struct OtlpOptions {
  std::string url;  // as it was given, without a query: for messages
  bool tls = false;
  std::string host, port, target;     // target: the path, and what follows
  std::string certificate_file = {};  // PEM, of who may sign the collector's; empty: the system's
  Headers headers = {};               // of every request
  Attributes resource = {};
  std::string version = {};  // of the program
  Sampler sampler = {};
  std::chrono::milliseconds timeout{10'000};       // of one attempt
  std::chrono::milliseconds interval{5'000};       // between batches, at most
  std::size_t max_queued = 2048, max_batch = 512;  // spans
};

/// The value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// Nothing where no endpoint is set, or OTEL_SDK_DISABLED. `endpoint`, where it is not empty, comes before
/// OTEL_EXPORTER_OTLP_ENDPOINT, and like it has /v1/traces added to it. Throws std::invalid_argument that
/// names the flag or the variable and never shows a header's value.
std::optional<OtlpOptions> otlp_options(const std::string& endpoint, const std::string& version,
                                        const Environment& environment);

}  // namespace redline::server
