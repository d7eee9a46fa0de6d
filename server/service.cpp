#include "server/service.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "engine/weights.h"
#include "server/answer_constraint.h"
#include "server/dashboard.h"
#include "server/reply.h"

namespace redline::server {
namespace {

/// Counts a call while it lives.
class CallCount {
 public:
  explicit CallCount(std::int64_t& num_calls) : num_calls_(num_calls) { ++num_calls_; }
  ~CallCount() { --num_calls_; }
  CallCount(const CallCount&) = delete;
  CallCount& operator=(const CallCount&) = delete;

 private:
  std::int64_t& num_calls_;
};

/// Holds a generation's place in a list while it lives.
class ListedGeneration {
 public:
  ListedGeneration(std::list<Generation*>& list, Generation& generation)
      : list_(list), place_(list.insert(list.end(), &generation)) {}
  ~ListedGeneration() { list_.erase(place_); }
  ListedGeneration(const ListedGeneration&) = delete;
  ListedGeneration& operator=(const ListedGeneration&) = delete;

 private:
  std::list<Generation*>& list_;
  std::list<Generation*>::iterator place_;
};

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

ApiError no_progress() { return ApiError(503, "the engine makes no progress", "", "engine_frozen"); }

/// What the client is told of an event that ends its answer before its time; nothing for others.
std::optional<ApiError> failure_of(const OutputEvent& event, const Generation& generation) {
  if (event.finish_reason == FinishReason::kError) return ApiError(500, event.error, "", "generation_failed");
  if (event.finish_reason != FinishReason::kAborted) return std::nullopt;
  if (generation.overrun())
    return ApiError(503, "the client reads too slowly: its answer was ended", "", "reader_too_slow");
  return ApiError(503, "the request was aborted", "", "aborted");
}

/// Events on their way to a client, sent together where several come at once.
class EventWriter {
 public:
  EventWriter(Exchange& exchange, Generation& generation) : exchange_(exchange), generation_(generation) {}

  asio::awaitable<void> add(std::string events) {
    events_ += events;
    if (events_.size() >= kMaxSendBytes) co_await flush();
  }
  asio::awaitable<void> flush() {
    if (events_.empty()) co_return;
    const Generation::ReaderWait wait(generation_);
    if (!std::exchange(begun_, true)) co_await exchange_.begin_events();
    co_await exchange_.send(std::exchange(events_, {}));
  }
  /// Throws `error` where it can still be the answer's status; else it is the last event, without [DONE] or
  /// the stream's end.
  asio::awaitable<void> fail(ApiError error) {
    if (!begun_) throw error;
    co_await add(event_text(error.body()));
    co_await flush();
  }
  asio::awaitable<void> end() {
    co_await add(event_text("[DONE]"));
    co_await flush();
    co_await exchange_.end_events();
  }

 private:
  static constexpr std::size_t kMaxSendBytes = 64 << 10;
  Exchange& exchange_;
  Generation& generation_;
  std::string events_;
  bool begun_ = false;
};

}  // namespace

Service::Service(Engine& engine, LiveMeter& meter, ServiceOptions options)
    : engine_(engine),
      meter_(meter),
      options_(std::move(options)),
      diagnosed_(diagnosed(engine.model(), options_.kv_dtype)),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {
  if (engine.model().tokenizer) {
    chat_ = std::make_unique<ChatPrompt>(*engine.model().tokenizer);
    constraints_ = std::make_unique<ConstraintCompiler>(*engine.model().tokenizer);
  }
  options_.metrics.model_name = options_.model_names.front();
  options_.metrics.device_name = meter.peaks().device_name;
  served_.model = &engine.model();
  served_.chat = chat_.get();
  served_.max_context = engine.max_context();
  served_.names = options_.model_names;
  served_.constraints = constraints_.get();
  find_chat_forms();
}

void Service::find_chat_forms() {
  const Tokenizer* tokenizer = engine_.model().tokenizer.get();
  const std::string chat_template = tokenizer ? tokenizer->spec().chat_template : "";
  served_.tool_calls = find_tool_call_form(options_.tool_call_parser, chat_template);
  served_.reasoning = find_reasoning_form(options_.reasoning_parser, chat_template);
  if (!tokenizer) return;
  const auto add = [&](std::string_view marker, std::vector<TokenId>& tokens) {
    for (const AddedToken& token : tokenizer->spec().added_tokens)
      if (token.special && token.content == marker) tokens.push_back(token.id);
  };
  if (served_.tool_calls)
    for (const std::string_view marker : served_.tool_calls->markers()) add(marker, served_.tool_call_tokens);
  if (served_.reasoning)
    for (const std::string_view marker : {served_.reasoning->open, served_.reasoning->close})
      add(marker, served_.reasoning_tokens);
}

void Service::check_queue_of(const std::string& tenant) const {
  const auto named = options_.tenants_max_waiting.find(tenant);
  const std::int64_t most =
      named == options_.tenants_max_waiting.end() ? options_.tenant_max_waiting : named->second;
  const std::int64_t num_waiting = most > 0 ? engine_.num_waiting(tenant) : 0;
  if (most > 0 && num_waiting >= most)
    throw ApiError(429,
                   std::to_string(num_waiting) + " requests of tenant " + tenant + " wait; beyond " +
                       std::to_string(most) + " no more are taken",
                   "", "tenant_queue_full");
}

// On the readers' thread; what may take long goes on on the compilers', so that other calls are read
// meanwhile.
asio::awaitable<Call> Service::read_call(const HttpRequest& request) {
  const Json body = parse_body(request.body);
  const bool chat = request.path == "/v1/chat/completions";
  if (may_bring_constraint(body))
    co_return co_await asio::co_spawn(compilers_, parse_call(body, chat), asio::use_awaitable);
  co_return co_await parse_call(body, chat);
}

asio::awaitable<Call> Service::parse_call(const Json& body, bool chat) const {
  co_return chat ? parse_chat(body, served_) : parse_completion(body, served_);
}

Service::CallRecords Service::open_records(std::vector<Request>& requests, const std::string& tenant) const {
  CallRecords records;
  if (!options_.accounts) return records;
  for (Request& request : requests) {
    records.push_back(options_.accounts->begin(tenant));
    request.on_end = [record = records.back()](const RequestUsage& usage) { record->end(usage); };
  }
  return records;
}

asio::awaitable<HttpResponse> Service::read(std::function<HttpResponse()> answer) {
  const auto run = [](const std::function<HttpResponse()>& what) -> asio::awaitable<HttpResponse> {
    co_return what();
  };
  co_return co_await asio::co_spawn(readers_, run(answer), asio::use_awaitable);
}

asio::awaitable<void> Service::complete(Exchange& exchange, std::string tenant) {
  std::optional<Generation> generation;
  CallTrace trace(options_.telemetry, meter_.peaks(), exchange.request(), tenant);
  try {
    co_await generate(exchange, tenant, generation, trace);
  } catch (const ApiError& error) {
    trace.fail(error);
    throw;
  } catch (const boost::system::system_error&) {
    trace.lose_client();
    throw;
  }
}

asio::awaitable<void> Service::generate(Exchange& exchange, const std::string& tenant,
                                        std::optional<Generation>& generation, CallTrace& trace) {
  if (const auto error = failure()) throw *error;
  if (num_calls_ >= options_.max_queue)
    throw ApiError(429, std::to_string(num_calls_) + " calls are under way, the most there may be", "",
                   "queue_full");
  check_queue_of(tenant);
  const CallCount count(num_calls_);
  CallMeter call_meter(answers_, tenant);
  Call call = co_await asio::co_spawn(readers_, read_call(exchange.request()), asio::use_awaitable);
  check_queue_of(tenant);  // others may have come while this one was read
  for (Request& each : call.requests) {
    each.tenant = tenant;
    each.received_ns = call_meter.arrival_ns();
  }
  const CallRecords records = open_records(call.requests, tenant);
  try {
    generation.emplace(exchange.executor(), engine_, call.requests);
  } catch (const std::invalid_argument& error) {
    throw ApiError(400, error.what(), call.chat ? "messages" : "prompt", "invalid_request");
  } catch (const std::runtime_error& error) {
    throw ApiError(503, error.what(), "", "engine_stopped");
  }
  call_meter.begin(call.requests, *generation);
  trace.begin(call, *generation);
  exchange.on_close([&generation, &trace] {
    trace.lose_client();
    generation->abort();
  });
  const ListedGeneration listed(generations_, *generation);
  std::exception_ptr client_gone;
  try {
    co_await answer(exchange, call, *generation, call_meter, trace, records);
  } catch (const boost::system::system_error& error) {
    if (timed_out(error.code()) || generation->overrun()) ++answers_.num_stalled_readers;
    client_gone = std::current_exception();
  }
  if (client_gone) {
    generation->abort();
    while (!(co_await generation->next()).empty()) {
    }  // what it has cost is known at its end
    std::rethrow_exception(client_gone);
  }
  if (generation->overrun()) ++answers_.num_stalled_readers;
}

asio::awaitable<void> Service::answer(Exchange& exchange, const Call& call, Generation& generation,
                                      CallMeter& call_meter, CallTrace& trace, const CallRecords& records) {
  Reply reply(call, engine_.model().tokenizer.get(), options_.price_per_hour);
  EventWriter writer(exchange, generation);
  for (auto pieces = co_await generation.next(); !pieces.empty(); pieces = co_await generation.next()) {
    for (const auto& piece : pieces) {
      call_meter.add(piece);
      if (!records.empty()) records[piece.prompt]->update(generation.usage(piece.prompt));
      if (const auto failure = failure_of(piece.event, generation)) {
        trace.fail(*failure);
        co_return co_await writer.fail(*failure);
      }
      if (!call.stream)
        reply.add(piece);
      else
        co_await writer.add(reply.chunk(piece, generation));
    }
    co_await writer.flush();
  }
  trace.finish(reply);
  if (generation.given_up()) {
    trace.fail(no_progress());
    co_return co_await writer.fail(no_progress());
  }
  if (call.stream) {
    if (call.include_usage) co_await writer.add(reply.usage_chunk(generation.usage()));
    co_await writer.end();
  } else {
    const auto whole = [&] {
      HttpResponse response;
      response.body = reply.body(generation.usage());
      return response;
    };
    HttpResponse response;
    if (call.requests.front().sampling.num_prompt_logprobs >= 0)
      response = co_await read(whole);  // a long prompt's logprobs take long to write
    else
      response = whole();
    co_await exchange.respond(std::move(response));
  }
}

std::optional<ApiError> Service::failure() const {
  if (const std::string why = engine_.stats().failure; !why.empty())
    return ApiError(503, "the engine has stopped: " + why, "", "engine_stopped");
  if (given_up_) return no_progress();
  return std::nullopt;
}

void Service::abort_calls() {
  for (Generation* generation : generations_) generation->abort();
}

void Service::give_up() {
  given_up_ = true;
  for (Generation* generation : generations_) generation->give_up();
}

HttpResponse Service::metrics(const std::optional<std::string>& tenant) const {
  const EngineStats stats = engine_.stats();
  const LiveReading reading = meter_.read(now_ns(), stats.num_running + stats.num_waiting > 0);
  const DeviceHealth health = options_.sensors ? options_.sensors->read() : DeviceHealth{};
  const OtlpExporter* exporter = options_.telemetry.exporter.get();
  return metrics_response(metrics_text(options_.metrics, meter_, reading, answers_, stats, health,
                                       exporter ? std::optional(exporter->totals()) : std::nullopt, tenant));
}

HttpResponse Service::utilization() const {
  const EngineStats stats = engine_.stats();
  const LiveWindow minute =
      meter_.window(now_ns(), LiveMeter::kLongestWindowNs, stats.num_running + stats.num_waiting > 0);
  const UtilizationMeter meter = meter_.meter_of(minute.totals);
  const Explanation explanation =
      explain(meter, diagnosed_, {.wall_s = minute.wall_s, .idle_s = minute.idle_s});
  return json_response({{"window_s", minute.wall_s},
                        {"utilization", meter.to_json({.wall_s = minute.wall_s})},
                        {"explanation", explanation.json()}});
}

HttpResponse Service::steps(const HttpRequest& request) const {
  return steps_response(meter_, request.query, now_ns());
}

Json Service::model_json(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", created_},
          {"owned_by", "redline"},
          {"root", options_.model_names.front()},
          {"parent", nullptr},
          {"max_model_len", served_.max_context},
          {"permission", Json::array()}};
}

HttpResponse Service::models() const {
  Json data = Json::array();
  for (const std::string& name : options_.model_names) data.push_back(model_json(name));
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse Service::model(const std::string& name) const {
  check_model_name(name, served_);
  return json_response(model_json(name));
}

HttpResponse Service::props() const {
  return json_response({{"model", options_.model_names.front()},
                        {"architecture", engine_.model().config.architecture},
                        {"max_model_len", served_.max_context},
                        {"vocab_size", engine_.model().config.vocab_size},
                        {"max_queue", options_.max_queue}});
}

}  // namespace redline::server
