// A loaded model and the calls that it answers.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accounts/account_writer.h"
#include "engine/chat_prompt.h"
#include "engine/engine.h"
#include "engine/meter/explanation.h"
#include "server/call.h"
#include "server/call_meter.h"
#include "server/call_trace.h"
#include "server/generation.h"
#include "server/http_server.h"
#include "server/live_meter.h"
#include "server/metrics.h"

namespace redline::server {

struct ServiceOptions {
  std::vector<std::string> model_names;  // at least one: what clients may call the model
  std::string tool_call_parser = "auto", reasoning_parser = "auto";  // chat_form.h
  std::int64_t max_queue = 1024;  // calls at a time beyond which 429 is answered
  /// Requests of a tenant that may wait for their first step; a call that comes then gets 429. Of each tenant
  /// (0: any number), but for those named.
  std::int64_t tenant_max_waiting = 0;
  std::map<std::string, std::int64_t> tenants_max_waiting = {};
  DType kv_dtype = DType::kBF16;              // the engine's
  MetricsOptions metrics;                     // but for what the engine knows
  std::shared_ptr<DeviceSensors> sensors;     // null: there are none
  std::shared_ptr<AccountWriter> accounts{};  // the durable ledger; null: none
  std::optional<double> price_per_hour{};     // of the device
  Telemetry telemetry{};
};

/// All but the constructor belong to the server's thread.
class Service {
 public:
  /// Keeps references to `engine` and `meter`. Throws std::invalid_argument for an unknown parser.
  Service(Engine& engine, LiveMeter& meter, ServiceOptions options);

  const ServedModel& served() const { return served_; }
  /// Answers a completion of `tenant`'s. Throws ApiError.
  asio::awaitable<void> complete(Exchange& exchange, std::string tenant);
  /// What `answer` returns or throws, computed where a long text holds up nobody's stream.
  asio::awaitable<HttpResponse> read(std::function<HttpResponse()> answer);
  /// Why there will be no more answers, once the engine has stopped or been given up.
  std::optional<ApiError> failure() const;
  /// Ends the answers that are under way: their clients are told so.
  void abort_calls();
  /// The engine makes no progress: calls under way, and all that come, get 503.
  void give_up();
  /// Waits for the threads that read calls. Once the server has stopped, before this is destroyed.
  void join() {
    readers_.join();  // in this order: they wait for the other
    compilers_.join();
  }

  std::int64_t num_calls() const { return num_calls_; }
  HttpResponse models() const;
  /// Throws ApiError 404 for a name that is none of the model's.
  HttpResponse model(const std::string& name) const;
  HttpResponse props() const;
  /// Of tenants' own figures: `tenant`'s, or everybody's.
  HttpResponse metrics(const std::optional<std::string>& tenant) const;
  /// What the last minute came to, where its time went, and why: docs/json.md.
  HttpResponse utilization() const;
  /// dashboard.h: steps_response.
  HttpResponse steps(const HttpRequest& request) const;

 private:
  void find_chat_forms();
  Json model_json(const std::string& name) const;
  /// Throws where the tenant has as many requests waiting as it may.
  void check_queue_of(const std::string& tenant) const;
  asio::awaitable<Call> read_call(const HttpRequest& request);
  asio::awaitable<Call> parse_call(const Json& body, bool chat) const;
  using CallRecords = std::vector<std::shared_ptr<CallRecord>>;  // by prompt; empty without a ledger
  CallRecords open_records(std::vector<Request>& requests, const std::string& tenant) const;
  asio::awaitable<void> generate(Exchange& exchange, const std::string& tenant,
                                 std::optional<Generation>& generation, CallTrace& trace);
  asio::awaitable<void> answer(Exchange& exchange, const Call& call, Generation& generation,
                               CallMeter& call_meter, CallTrace& trace, const CallRecords& records);

  Engine& engine_;
  LiveMeter& meter_;
  ServiceOptions options_;
  const DiagnosedModel diagnosed_;
  std::unique_ptr<ChatPrompt> chat_;
  std::unique_ptr<ConstraintCompiler> constraints_;
  ServedModel served_;
  std::int64_t created_;  // Unix time, in seconds
  AnswerTotals answers_;
  std::int64_t num_calls_ = 0;  // under way
  std::list<Generation*> generations_;
  bool given_up_ = false;
  asio::thread_pool readers_{1};  // templates and tokenizers: a long prompt must not hold up others' streams
  asio::thread_pool compilers_{1};  // the same for calls with grammars, which may take seconds to compile
};

}  // namespace redline::server
