// The routes: who may ask, what they ask, and what they get.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "engine/chat_prompt.h"
#include "engine/engine.h"
#include "server/api_keys.h"
#include "server/call.h"
#include "server/call_meter.h"
#include "server/generation.h"
#include "server/http_server.h"
#include "server/live_meter.h"
#include "server/metrics.h"

namespace redline::server {

struct ApiOptions {
  std::vector<std::string> model_names;  // at least one: what clients may call the model
  ApiKeys api_keys;                      // empty: none is needed
  std::string tool_call_parser = "auto", reasoning_parser = "auto";  // chat_form.h
  std::int64_t max_queue = 1024;  // calls at a time beyond which 429 is answered
  std::string version;
  MetricsOptions metrics;                  // but for what the others say
  std::shared_ptr<DeviceSensors> sensors;  // null: there are none
};

class Api {
 public:
  /// Keeps references to `engine` and `meter`. Throws std::invalid_argument for an unknown parser.
  Api(Engine& engine, LiveMeter& meter, ApiOptions options);

  /// Answers one request: the server's Handler. Throws ApiError.
  asio::awaitable<void> handle(Exchange& exchange);
  /// From now on: not healthy, new calls get 503.
  void begin_draining() { draining_ = true; }
  /// Ends the answers that are under way: their clients are told so.
  void abort_calls();
  /// The engine makes no progress: from now on not healthy, and all calls get 503.
  void give_up();
  /// Waits for the threads that read calls. Once the server has stopped, before it is destroyed.
  void join() { readers_.join(); }

 private:
  struct Route {
    const char *method, *path;
    HttpResponse (*answer)(const Api& api, const HttpRequest& request);  // null: a completion
  };
  void find_chat_forms();
  const Route& route_of(const HttpRequest& request) const;
  /// Whose the request is.
  std::string authorize(const HttpRequest& request) const;
  HttpResponse preflight() const;
  asio::awaitable<Call> read(const HttpRequest& request) const;
  asio::awaitable<void> complete(Exchange& exchange, std::string tenant);
  HttpResponse health() const;
  HttpResponse models() const;
  HttpResponse tokenize(const std::string& body) const;
  HttpResponse detokenize(const std::string& body) const;
  HttpResponse apply_template(const std::string& body) const;
  HttpResponse props() const;
  HttpResponse metrics() const;

  Engine& engine_;
  LiveMeter& meter_;
  const ApiOptions options_;
  std::unique_ptr<ChatPrompt> chat_;
  std::unique_ptr<ConstraintCompiler> constraints_;
  ServedModel served_;
  std::int64_t created_;
  AnswerTotals answers_;
  std::int64_t num_calls_ = 0;  // under way
  std::list<Generation*> generations_;
  bool draining_ = false, given_up_ = false;
  asio::thread_pool readers_{1};  // templates and tokenizers: a long prompt must not hold up others' streams
};

}  // namespace redline::server
