// The dashboard: a page that reads /metrics and /steps and draws them. Its files hold no data.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "server/http.h"
#include "server/live_meter.h"

namespace redline::server {

struct DashboardFile {
  std::string_view path, content_type, text;
};
std::span<const DashboardFile> dashboard_files();

/// The file at `path`, if it is one of the dashboard's. `needs_key`: the page asks for one first.
std::optional<HttpResponse> dashboard_response(std::string_view path, bool needs_key);

/// {steps: [...]}: the last steps after the one whose serial the query names (`since=N`), oldest first, with
/// their age at `now_ns`. Throws ApiError 400 for another query.
HttpResponse steps_response(const LiveMeter& meter, std::string_view query, std::int64_t now_ns);

}  // namespace redline::server
