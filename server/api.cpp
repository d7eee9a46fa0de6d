#include "server/api.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "server/dashboard.h"
#include "server/fields.h"
#include "server/text_routes.h"

namespace redline::server {
namespace {

constexpr std::string_view kModel = "{model}";

// A path that ends in {model} takes any name there, whatever slashes it has.
bool matches(std::string_view path, const std::string& asked) {
  if (!path.ends_with(kModel)) return path == asked;
  path.remove_suffix(kModel.size());
  return asked.size() > path.size() && asked.starts_with(path);
}

HttpResponse model(const Service& service, const HttpRequest& request) {
  constexpr std::string_view kModels = "/models/";
  const std::string name = request.path.substr(request.path.find(kModels) + kModels.size());
  return service.model(percent_decoded(name).value_or(name));
}

ApiError shutting_down() { return ApiError(503, "the server is shutting down", "", "shutting_down"); }

}  // namespace

struct Api::Route {
  using Always = HttpResponse (Api::*)(const HttpRequest& request) const;
  using Loaded = HttpResponse (*)(const Service& service, const HttpRequest& request);
  using Text = HttpResponse (*)(const std::string& body, const ServedModel& served);
  struct Completion {};

  const char *method, *path;
  std::variant<Always, Loaded, Text, Completion> answer;  // the others need the model
};

const Api::Route& Api::route_of(const HttpRequest& request) {
  static const Route kRoutes[] = {
      {"GET", "/health", &Api::health},
      {"GET", "/v1/health", &Api::health},
      {"GET", "/v1/models", [](const Service& service, const HttpRequest&) { return service.models(); }},
      {"GET", "/models", [](const Service& service, const HttpRequest&) { return service.models(); }},
      {"GET", "/v1/models/{model}", &model},
      {"GET", "/models/{model}", &model},
      {"GET", "/metrics", &Api::metrics},
      {"GET", "/steps",
       [](const Service& service, const HttpRequest& asked) { return service.steps(asked); }},
      {"GET", "/v1/utilization",
       [](const Service& service, const HttpRequest&) { return service.utilization(); }},
      {"GET", "/version", &Api::version},
      {"GET", "/props", [](const Service& service, const HttpRequest&) { return service.props(); }},
      {"GET", "/load", &Api::load},
      {"POST", "/tokenize", &tokenize},
      {"POST", "/detokenize", &detokenize},
      {"POST", "/apply-template", &apply_template},
      {"POST", "/v1/completions", Route::Completion()},
      {"POST", "/v1/chat/completions", Route::Completion()},
  };
  for (const char* absent :
       {"/v1/embeddings", "/embeddings", "/v1/responses", "/v1/rerank", "/v1/audio", "/v1/images",
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/lora-adapters"})
    if (request.path == absent || request.path.starts_with(std::string(absent) + "/"))
      throw ApiError(501, request.path + " is not served", "", "not_implemented");
  const auto* route =
      std::ranges::find_if(kRoutes, [&](const Route& each) { return matches(each.path, request.path); });
  if (route == std::end(kRoutes))
    throw ApiError(404, "there is no route " + request.path, "", "route_not_found");
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  if (method != route->method)
    throw ApiError(
        405, request.path + " takes " + route->method, "", "method_not_allowed",
        {{"Allow", route->method == std::string_view("GET") ? "GET, HEAD, OPTIONS" : "POST, OPTIONS"}});
  return *route;
}

std::string_view Api::key_of(const HttpRequest& request) {
  constexpr std::string_view kBearer = "Bearer ";
  if (const auto header = request.header("Authorization"); header.starts_with(kBearer))
    return header.substr(kBearer.size());
  return request.header("X-Api-Key");
}

std::string Api::authorize(const HttpRequest& request) const {
  if (options_.api_keys.empty()) return "default";
  const auto tenant = options_.api_keys.tenant_of(key_of(request));
  if (!tenant)
    throw ApiError(401, "a valid API key is needed: Authorization: Bearer KEY, or X-Api-Key", "",
                   "invalid_api_key");
  return *tenant;
}

HttpResponse Api::preflight() const {
  HttpResponse response{.content_type = "text/plain", .body = "", .headers = {}};
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                      {"Access-Control-Allow-Headers", "*"},
                      {"Access-Control-Max-Age", "86400"}};
  return response;
}

asio::awaitable<void> Api::handle(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  if (request.method == "OPTIONS") {
    co_await exchange.respond(preflight());
    co_return;
  }
  if (request.method == "GET" || request.method == "HEAD")
    if (auto file = dashboard_response(request.path, !options_.api_keys.empty())) {
      co_await exchange.respond(std::move(*file));
      co_return;
    }
  std::string tenant;
  if (request.path != "/health" && request.path != "/v1/health") tenant = authorize(request);
  const auto& answer = route_of(request).answer;
  if (const auto* always = std::get_if<Route::Always>(&answer)) {
    co_await exchange.respond((this->**always)(request));
    co_return;
  }
  if (!service_) throw loading_error();
  if (const auto* loaded = std::get_if<Route::Loaded>(&answer)) {
    co_await exchange.respond((*loaded)(*service_, request));
  } else if (const auto* text = std::get_if<Route::Text>(&answer)) {
    const auto read = [&] { return (*text)(request.body, service_->served()); };
    co_await exchange.respond(co_await service_->read(read));
  } else {
    if (draining_) throw shutting_down();
    co_await service_->complete(exchange, std::move(tenant));
  }
}

void Api::show_progress(std::int64_t done_bytes, std::int64_t total_bytes) {
  loaded_bytes_ = done_bytes;
  total_bytes_ = total_bytes;
}

ApiError Api::loading_error() const {
  std::string message = "the model is being loaded";
  if (total_bytes_ > 0)
    message += ": " + std::to_string(loaded_bytes_) + " of " + std::to_string(total_bytes_) + " bytes";
  return ApiError(503, message, "", "loading");
}

HttpResponse Api::health(const HttpRequest&) const {
  if (!service_) {
    HttpResponse response = loading_error().response();
    Json body = Json::parse(response.body);
    body["loading"] = {{"done_bytes", loaded_bytes_.load()}, {"total_bytes", total_bytes_.load()}};
    response.body = body.dump();
    return response;
  }
  if (const auto failure = service_->failure()) return failure->response();
  if (draining_) return shutting_down().response();
  return json_response({{"status", "ok"}});
}

HttpResponse Api::metrics(const HttpRequest& request) const {
  const ApiKeys& keys = options_.api_keys;
  std::optional<std::string> only;
  if (!keys.empty() && !keys.sees_all(key_of(request))) only = keys.tenant_of(key_of(request));
  if (service_) return service_->metrics(only);
  return metrics_response(
      loading_metrics_text(options_.version, options_.model_name, loaded_bytes_, total_bytes_));
}

HttpResponse Api::load(const HttpRequest&) const {
  return json_response({{"server_load", service_ ? service_->num_calls() : 0}});
}

HttpResponse Api::version(const HttpRequest&) const { return json_response({{"version", options_.version}}); }

}  // namespace redline::server
