#include "server/dashboard.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

namespace redline::server {
namespace {

using Json = nlohmann::ordered_json;

// Scripts, styles and data from this server alone, and no page around this one.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

double seconds(double ns) { return ns * 1e-9; }

std::int64_t read_since(std::string_view query) {
  if (query.empty()) return 0;
  constexpr std::string_view kKey = "since=";
  std::int64_t since = -1;
  if (query.starts_with(kKey)) {
    const auto [end, error] = std::from_chars(query.data() + kKey.size(), query.data() + query.size(), since);
    if (error != std::errc() || end != query.data() + query.size()) since = -1;
  }
  if (since < 0) throw ApiError(400, "the query is since=N, N a step's serial", "since", "invalid_query");
  return since;
}

}  // namespace

std::optional<HttpResponse> dashboard_response(std::string_view path, bool needs_key) {
  const auto files = dashboard_files();
  const auto file = std::ranges::find(files, path, &DashboardFile::path);
  if (file == files.end()) return std::nullopt;
  HttpResponse response{
      .content_type = std::string(file->content_type), .body = std::string(file->text), .headers = {}};
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  constexpr std::string_view kOpen = "data-needs-key=\"false\"";
  if (const auto at = response.body.find(kOpen); needs_key && at != std::string::npos)
    response.body.replace(at, kOpen.size(), "data-needs-key=\"true\"");
  return response;
}

HttpResponse steps_response(const LiveMeter& meter, std::string_view query, std::int64_t now_ns) {
  Json steps = Json::array();
  for (const StepPoint& step : meter.steps_since(read_since(query)))
    steps.push_back({{"serial", step.serial},
                     {"age_s", seconds(static_cast<double>(now_ns - step.end_ns))},
                     {"prefill_tokens", step.prefill_tokens},
                     {"decode_tokens", step.decode_tokens},
                     {"sequences", step.num_sequences},
                     {"flops", step.useful_flops},
                     {"bytes", step.min_bytes},
                     {"busy_s", seconds(step.busy_ns)},
                     {"wall_s", seconds(static_cast<double>(step.wall_ns))},
                     {"gap_s", seconds(static_cast<double>(step.gap_ns))}});
  return {.body = Json{{"steps", std::move(steps)}}.dump(), .headers = {}};
}

}  // namespace redline::server
