#include "server/model_server.h"

#include <utility>

namespace redline::server {

ModelServer::ModelServer(const HttpAddress& address, HttpLimits limits, Headers headers, ApiOptions options,
                         RequestLog log)
    : api_(std::move(options)),
      http_(
          address, limits, std::move(headers), [this](Exchange& exchange) { return api_.handle(exchange); },
          std::move(log)) {}

ModelServer::~ModelServer() {
  if (loading_.joinable()) loading_.join();
  // The engine makes steps, and posts what they made, until it ends: after the answers that wait for it,
  // before what it posts to.
  http_.drop_connections();
  service_.reset();
}

bool ModelServer::run(Loader load, std::function<void()> loaded) {
  loading_ =
      std::thread([this, load = std::move(load), loaded = std::move(loaded)] { load_model(load, loaded); });
  http_.run();
  if (!load_has_ended_) return false;
  loading_.join();
  if (failure_) std::rethrow_exception(failure_);
  if (!service_) return false;
  service_->join();
  return true;
}

void ModelServer::load_model(const Loader& load, std::function<void()> loaded) {
  try {
    auto service = load([this](std::int64_t done_bytes, std::int64_t total_bytes) {
      api_.show_progress(done_bytes, total_bytes);
    });
    http_.post([this, service = std::move(service), loaded = std::move(loaded)] {
      service_ = service;
      api_.serve(*service_);
      loaded();
    });
  } catch (...) {
    failure_ = std::current_exception();
  }
  load_has_ended_ = true;
  if (failure_) stop_at_once();
}

void ModelServer::stop(std::chrono::milliseconds drain_timeout) {
  http_.post([this, drain_timeout] {
    if (!service_) return stop_at_once();
    http_.stop(
        drain_timeout, [this] { api_.begin_draining(); }, [this] { service_->abort_calls(); });
  });
}

void ModelServer::stop_at_once() {
  http_.stop(std::chrono::milliseconds(0));
  http_.stop(std::chrono::milliseconds(0));
}

void ModelServer::give_up() {
  http_.post([this] {
    if (service_) service_->give_up();
  });
}

}  // namespace redline::server
