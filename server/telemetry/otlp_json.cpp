#include "server/telemetry/otlp_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/telemetry/trace_context.h"

namespace redline::server {
namespace {

using Json = nlohmann::ordered_json;

// Protobuf's mapping writes 64-bit integers as text.
Json value_json(const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return {{"stringValue", *text}};
  if (const auto* integer = std::get_if<std::int64_t>(&value))
    return {{"intValue", std::to_string(*integer)}};
  if (const auto* flag = std::get_if<bool>(&value)) return {{"boolValue", *flag}};
  if (const auto* number = std::get_if<double>(&value)) {
    if (std::isfinite(*number)) return {{"doubleValue", *number}};
    return {{"doubleValue", std::isnan(*number) ? "NaN" : *number > 0 ? "Infinity" : "-Infinity"}};
  }
  Json values = Json::array();
  for (const std::string& text : std::get<std::vector<std::string>>(value))
    values.push_back({{"stringValue", text}});
  return {{"arrayValue", {{"values", std::move(values)}}}};
}

Json attributes_json(const Attributes& attributes) {
  Json list = Json::array();
  for (const auto& [key, value] : attributes) list.push_back({{"key", key}, {"value", value_json(value)}});
  return list;
}

Json span_json(const Span& span) {
  constexpr int kSampled = 1, kKnowsWhetherRemote = 0x100, kIsRemote = 0x200;
  constexpr int kError = 2;
  const auto hex_of = [](const auto& id) { return hex(id.data(), id.size()); };
  Json json{{"traceId", hex_of(span.trace)}, {"spanId", hex_of(span.id)}};
  if (span.parent != SpanId{}) json["parentSpanId"] = hex_of(span.parent);
  if (!span.trace_state.empty()) json["traceState"] = span.trace_state;
  json["flags"] = kSampled | kKnowsWhetherRemote | (span.parent_is_remote ? kIsRemote : 0);
  json["name"] = span.name;
  json["kind"] = static_cast<int>(span.kind);
  json["startTimeUnixNano"] = std::to_string(span.start_ns);
  json["endTimeUnixNano"] = std::to_string(span.end_ns);
  json["attributes"] = attributes_json(span.attributes);
  json["status"] = span.failed ? Json{{"code", kError}} : Json::object();
  return json;
}

}  // namespace

std::string otlp_json(const Attributes& resource, const std::string& version, std::span<const Span> spans) {
  Json list = Json::array();
  for (const Span& span : spans) list.push_back(span_json(span));
  const Json scope{{"scope", {{"name", "redline"}, {"version", version}}}, {"spans", std::move(list)}};
  const Json whole{{"resource", {{"attributes", attributes_json(resource)}}},
                   {"scopeSpans", Json::array({scope})}};
  return Json{{"resourceSpans", Json::array({whole})}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace redline::server
