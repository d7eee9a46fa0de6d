// Spans as OTLP's JSON encoding has them (opentelemetry.io/docs/specs/otlp).
#pragma once

#include <span>
#include <string>

#include "server/telemetry/span.h"

namespace redline::server {

/// The body of a POST to /v1/traces. `resource`: what the spans are of.
std::string otlp_json(const Attributes& resource, const std::string& version, std::span<const Span> spans);

}  // namespace redline::server
