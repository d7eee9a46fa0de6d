// The routes: who may ask, and what answers, before the model is loaded too.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "server/api_keys.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/service.h"

namespace redline::server {

struct ApiOptions {
  ApiKeys api_keys;  // empty: none is needed
  std::string version;
  std::string model_name;  // of /metrics while it is being loaded
};

/// Until serve(), routes that need the model answer 503.
class Api {
 public:
  explicit Api(ApiOptions options) : options_(std::move(options)) {}

  /// Answers one request: the server's Handler. Throws ApiError.
  asio::awaitable<void> handle(Exchange& exchange);
  /// How far the model is loaded; 0 of 0 while nothing is known. From any thread.
  void show_progress(std::int64_t done_bytes, std::int64_t total_bytes);
  /// The model is loaded. `service` lives as long as requests are answered.
  void serve(Service& service) { service_ = &service; }
  bool is_loading() const { return service_ == nullptr; }
  /// From now on: not healthy, new calls get 503.
  void begin_draining() { draining_ = true; }

 private:
  struct Route;
  static const Route& route_of(const HttpRequest& request);
  static std::string_view key_of(const HttpRequest& request);
  /// Whose the request is.
  std::string authorize(const HttpRequest& request) const;
  HttpResponse preflight() const;
  HttpResponse health(const HttpRequest& request) const;
  HttpResponse metrics(const HttpRequest& request) const;
  HttpResponse load(const HttpRequest& request) const;
  HttpResponse version(const HttpRequest& request) const;
  ApiError loading_error() const;

  const ApiOptions options_;
  std::atomic<std::int64_t> loaded_bytes_ = 0, total_bytes_ = 0;
  Service* service_ = nullptr;  // null: the model is being loaded
  bool draining_ = false;
};

}  // namespace redline::server
