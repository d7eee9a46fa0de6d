#include "server/api.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "server/dashboard.h"
#include "server/generation.h"
#include "server/reply.h"

namespace redline::server {
namespace {

HttpResponse json_response(const Json& json) {
  return {.body = json.dump(-1, ' ', false, Json::error_handler_t::replace), .headers = {}};
}

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
std::optional<ApiError> failure_of(const OutputEvent& event) {
  if (event.finish_reason == FinishReason::kError) return ApiError(500, event.error, "", "generation_failed");
  if (event.finish_reason == FinishReason::kAborted)
    return ApiError(503, "the request was aborted", "", "aborted");
  return std::nullopt;
}

}  // namespace

Api::Api(Engine& engine, LiveMeter& meter, ApiOptions options)
    : engine_(engine),
      meter_(meter),
      options_(std::move(options)),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {
  if (engine.model().tokenizer) {
    chat_ = std::make_unique<ChatPrompt>(*engine.model().tokenizer);
    constraints_ = std::make_unique<ConstraintCompiler>(*engine.model().tokenizer);
  }
  served_.model = &engine.model();
  served_.chat = chat_.get();
  served_.max_context = engine.max_context();
  served_.names = options_.model_names;
  served_.constraints = constraints_.get();
  find_chat_forms();
}

void Api::find_chat_forms() {
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

std::string Api::authorize(const HttpRequest& request) const {
  if (options_.api_keys.empty()) return "default";
  std::string_view given = request.header("X-Api-Key");
  constexpr std::string_view kBearer = "Bearer ";
  if (const auto header = request.header("Authorization"); header.starts_with(kBearer))
    given = header.substr(kBearer.size());
  const auto tenant = options_.api_keys.tenant_of(given);
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

// The routes: method, path, and what answers.
const Api::Route& Api::route_of(const HttpRequest& request) const {
  static const Route kRoutes[] = {
      {"GET", "/health", [](const Api& api, const HttpRequest&) { return api.health(); }},
      {"GET", "/v1/health", [](const Api& api, const HttpRequest&) { return api.health(); }},
      {"GET", "/v1/models", [](const Api& api, const HttpRequest&) { return api.models(); }},
      {"GET", "/models", [](const Api& api, const HttpRequest&) { return api.models(); }},
      {"GET", "/metrics", [](const Api& api, const HttpRequest&) { return api.metrics(); }},
      {"GET", "/steps",
       [](const Api& api, const HttpRequest& asked) {
         return steps_response(api.meter_, asked.query, now_ns());
       }},
      {"GET", "/version",
       [](const Api& api, const HttpRequest&) {
         return json_response({{"version", api.options_.version}});
       }},
      {"GET", "/props", [](const Api& api, const HttpRequest&) { return api.props(); }},
      {"GET", "/load",
       [](const Api& api, const HttpRequest&) {
         return json_response({{"server_load", api.num_calls_}});
       }},
      {"POST", "/tokenize",
       [](const Api& api, const HttpRequest& asked) { return api.tokenize(asked.body); }},
      {"POST", "/detokenize",
       [](const Api& api, const HttpRequest& asked) { return api.detokenize(asked.body); }},
      {"POST", "/apply-template",
       [](const Api& api, const HttpRequest& asked) { return api.apply_template(asked.body); }},
      {"POST", "/v1/completions", nullptr},
      {"POST", "/v1/chat/completions", nullptr},
  };
  for (const char* absent :
       {"/v1/embeddings", "/embeddings", "/v1/responses", "/v1/rerank", "/v1/audio", "/v1/images",
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/lora-adapters"})
    if (request.path == absent || request.path.starts_with(std::string(absent) + "/"))
      throw ApiError(501, request.path + " is not served", "", "not_implemented");
  const auto* route =
      std::ranges::find_if(kRoutes, [&](const Route& each) { return request.path == each.path; });
  if (route == std::end(kRoutes))
    throw ApiError(404, "there is no route " + request.path, "", "route_not_found");
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  if (method != route->method)
    throw ApiError(405, request.path + " takes " + route->method, "", "method_not_allowed");
  return *route;
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
  const Route& route = route_of(request);
  if (route.answer)
    co_await exchange.respond(route.answer(*this, request));
  else
    try {
      co_await complete(exchange, std::move(tenant));
    } catch (const boost::system::system_error& error) {
      if (timed_out(error.code())) ++answers_.num_stalled_readers;
      throw;
    }
}

HttpResponse Api::metrics() const {
  const EngineStats stats = engine_.stats();
  const LiveReading reading = meter_.read(now_ns(), stats.num_running + stats.num_waiting > 0);
  MetricsOptions options = options_.metrics;
  options.version = options_.version;
  options.model_name = options_.model_names.front();
  options.device_name = meter_.peaks().device_name;
  const DeviceHealth health = options_.sensors ? options_.sensors->read() : DeviceHealth{};
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = metrics_text(options, meter_, reading, answers_, stats, health),
          .headers = {}};
}

asio::awaitable<Call> Api::read(const HttpRequest& request) const {
  const Json body = parse_body(request.body);
  co_return request.path == "/v1/chat/completions" ? parse_chat(body, served_)
                                                   : parse_completion(body, served_);
}

void Api::abort_calls() {
  for (Generation* generation : generations_) generation->abort();
}

void Api::give_up() {
  given_up_ = true;
  for (Generation* generation : generations_) generation->give_up();
}

asio::awaitable<void> Api::complete(Exchange& exchange, std::string tenant) {
  if (given_up_) throw no_progress();
  if (draining_) throw ApiError(503, "the server is shutting down", "", "shutting_down");
  if (num_calls_ >= options_.max_queue)
    throw ApiError(429, std::to_string(num_calls_) + " calls are under way, the most there may be", "",
                   "queue_full");
  std::optional<Generation> generation;
  const CallCount count(num_calls_);
  CallMeter call_meter(answers_, tenant);
  Call call = co_await asio::co_spawn(readers_, read(exchange.request()), asio::use_awaitable);
  // What a tenant has cached, another must not find: it would tell him what was asked.
  for (Request& each : call.requests) each.cache_salt = tenant;
  try {
    generation.emplace(exchange.executor(), engine_, call.requests);
  } catch (const std::invalid_argument& error) {
    throw ApiError(400, error.what(), call.chat ? "messages" : "prompt", "invalid_request");
  } catch (const std::runtime_error& error) {
    throw ApiError(503, error.what(), "", "engine_stopped");
  }
  call_meter.begin(call.requests, *generation);
  exchange.on_close([&generation] { generation->abort(); });
  const ListedGeneration listed(generations_, *generation);

  Reply reply(call, engine_.model().tokenizer.get());
  bool begun = false;
  for (;;) {
    const auto pieces = co_await generation->next();
    if (pieces.empty()) break;
    std::string events;
    for (const auto& piece : pieces) {
      call_meter.add(piece);
      if (const auto failure = failure_of(piece.event)) {
        if (!begun) throw *failure;
        co_await exchange.send(events + event_text(failure->body()));
        co_return;  // without [DONE] or the stream's end
      }
      if (call.stream)
        events += reply.chunk(piece, generation->usage());
      else
        reply.add(piece);
    }
    if (events.empty()) continue;
    if (!std::exchange(begun, true)) co_await exchange.begin_events();  // until then an error has a status
    co_await exchange.send(std::move(events));
  }
  if (generation->given_up()) {
    if (!begun) throw no_progress();
    co_await exchange.send(event_text(no_progress().body()));
    co_return;
  }
  if (call.stream) {
    const std::string usage = call.include_usage ? reply.usage_chunk(generation->usage()) : "";
    co_await exchange.send(usage + event_text("[DONE]"));
    co_await exchange.end_events();
  } else {
    HttpResponse response;
    response.body = reply.body(generation->usage());
    co_await exchange.respond(std::move(response));
  }
}

HttpResponse Api::health() const {
  const EngineStats stats = engine_.stats();
  if (!stats.failure.empty())
    return ApiError(503, "the engine has stopped: " + stats.failure, "", "engine_stopped").response();
  if (given_up_) return no_progress().response();
  if (draining_) return ApiError(503, "the server is shutting down", "", "shutting_down").response();
  return json_response({{"status", "ok"}});
}

HttpResponse Api::models() const {
  Json data = Json::array();
  for (const std::string& name : options_.model_names)
    data.push_back({{"id", name},
                    {"object", "model"},
                    {"created", created_},
                    {"owned_by", "redline"},
                    {"root", options_.model_names.front()},
                    {"parent", nullptr},
                    {"max_model_len", served_.max_context},
                    {"permission", Json::array()}});
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse Api::props() const {
  return json_response({{"model", options_.model_names.front()},
                        {"architecture", engine_.model().config.architecture},
                        {"max_model_len", served_.max_context},
                        {"vocab_size", engine_.model().config.vocab_size},
                        {"max_queue", options_.max_queue}});
}

HttpResponse Api::tokenize(const std::string& body) const {
  const Json json = parse_body(body);
  const Fields fields(json);
  if (!served_.model->tokenizer) throw ApiError(400, "the model has no tokenizer", "", "no_tokenizer");
  const Tokenizer& tokenizer = *served_.model->tokenizer;
  std::string text;
  bool special = fields.boolean("add_special_tokens").value_or(true);
  const bool peer_form = fields.find("content") != nullptr;  // llama.cpp's
  if (peer_form) {
    text = *fields.text("content");
    special = fields.boolean("add_special").value_or(false);
  } else if (fields.find("messages")) {
    text = render_chat(fields, read_tools(fields), served_);
    special = false;
  } else if (const auto prompt = fields.text("prompt")) {
    text = *prompt;
  } else {
    fields.fail("prompt", "a string (or messages, or content)");
  }
  const auto ids = tokenizer.encode(text, {.add_special = special});
  Json pieces = Json::array();
  for (const TokenId id : ids) pieces.push_back(std::string(tokenizer.piece(id)));
  if (peer_form) {
    if (!fields.boolean("with_pieces").value_or(false)) return json_response({{"tokens", ids}});
    Json tokens = Json::array();
    for (std::size_t i = 0; i < ids.size(); ++i) tokens.push_back({{"id", ids[i]}, {"piece", pieces[i]}});
    return json_response({{"tokens", std::move(tokens)}});
  }
  return json_response({{"count", ids.size()},
                        {"max_model_len", served_.max_context},
                        {"tokens", ids},
                        {"token_strs", std::move(pieces)}});
}

HttpResponse Api::detokenize(const std::string& body) const {
  const Json json = parse_body(body);
  const Fields fields(json);
  if (!served_.model->tokenizer) throw ApiError(400, "the model has no tokenizer", "", "no_tokenizer");
  const Tokenizer& tokenizer = *served_.model->tokenizer;
  std::vector<TokenId> ids;
  if (!fields.find("tokens")) fields.fail("tokens", "an array of token ids");
  for (const auto id : fields.integers("tokens", 0, tokenizer.num_tokens() - 1, 1u << 24))
    ids.push_back(static_cast<TokenId>(id));
  const std::string text = tokenizer.decode(ids);
  return json_response({{"prompt", text}, {"content", text}});
}

HttpResponse Api::apply_template(const std::string& body) const {
  const Json json = parse_body(body);
  const Fields fields(json);
  return json_response({{"prompt", render_chat(fields, read_tools(fields), served_)}});
}

}  // namespace redline::server
