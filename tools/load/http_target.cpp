#include "tools/load/http_target.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tools/load/event_reader.h"
#include "tools/load/outside_page.h"

namespace redline::load {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr std::chrono::seconds kConnectTimeout(30), kAnswerTimeout(6 * 3600);
constexpr std::size_t kMaxErrorBytes = 300;

http::request<http::string_body> request_for(http::verb verb, const std::string& target,
                                             const std::string& host, const std::string& key) {
  http::request<http::string_body> request(verb, target, 11);
  request.set(http::field::host, host);
  request.set(http::field::user_agent, "redline");
  request.set(http::field::connection, "close");
  if (!key.empty()) request.set(http::field::authorization, "Bearer " + key);
  return request;
}

asio::awaitable<beast::tcp_stream> connect(std::string host, std::string port) {
  const auto executor = co_await asio::this_coro::executor;
  tcp::resolver resolver(executor);
  const auto endpoints = co_await resolver.async_resolve(host, port, asio::use_awaitable);
  beast::tcp_stream stream(executor);
  stream.expires_after(kConnectTimeout);
  co_await stream.async_connect(endpoints, asio::use_awaitable);
  boost::system::error_code ignored;
  stream.socket().set_option(tcp::no_delay(true), ignored);
  stream.expires_after(kAnswerTimeout);
  co_return stream;
}

std::string refusal(unsigned status, const std::string& body) {
  std::string message = body;
  if (const Json json = Json::parse(body, nullptr, false); json.is_object() && json.contains("error"))
    message = json["error"].is_object() ? json["error"].value("message", body) : json["error"].dump();
  return "HTTP " + std::to_string(status) + ": " + message.substr(0, kMaxErrorBytes);
}

/// One streamed answer's chunks, whichever of the two routes it comes from.
class AnswerReader {
 public:
  explicit AnswerReader(const std::function<void()>& on_chunk) : on_chunk_(on_chunk) {}

  void take(const std::string& data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const Json event = Json::parse(data, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object()) throw std::runtime_error("an event is no JSON object: " + data.substr(0, 80));
    if (const auto error = event.find("error"); error != event.end() && !error->is_null())
      throw std::runtime_error("the stream ended with an error: " + error->dump().substr(0, kMaxErrorBytes));
    if (const auto choices = event.find("choices"); choices != event.end() && !choices->empty()) {
      on_chunk_();
      ++counts_.output;
    }
    if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
      counts_.prompt = usage->value("prompt_tokens", std::int64_t{0});
      completion_tokens_ = usage->value("completion_tokens", std::int64_t{-1});
      const auto details = usage->find("prompt_tokens_details");
      if (details != usage->end() && details->is_object() && details->contains("cached_tokens")) {
        counts_.cached = details->value("cached_tokens", std::int64_t{0});
        counts_.tells_cached = true;
      }
    }
  }
  /// A chunk counts as a token where the server tells no usage.
  TokenCounts counts() const {
    if (!done_) throw std::runtime_error("the stream broke off before [DONE]");
    TokenCounts counts = counts_;
    if (completion_tokens_ >= 0) counts.output = completion_tokens_;
    return counts;
  }

 private:
  const std::function<void()>& on_chunk_;
  TokenCounts counts_;
  std::int64_t completion_tokens_ = -1;
  bool done_ = false;
};

}  // namespace

HttpTarget::HttpTarget(HttpOptions options) : options_(std::move(options)) {
  constexpr std::string_view kScheme = "http://";
  if (!options_.url.starts_with(kScheme))
    throw std::invalid_argument(options_.url + ": is no URL that starts with http://");
  std::string rest = options_.url.substr(kScheme.size());
  if (const auto slash = rest.find('/'); slash != std::string::npos) {
    base_path_ = rest.substr(slash);
    rest.resize(slash);
    while (base_path_.ends_with('/')) base_path_.pop_back();
    if (base_path_.ends_with("/v1")) base_path_.resize(base_path_.size() - 3);
  }
  const auto colon = rest.rfind(':');
  const bool has_port = colon != std::string::npos && rest.find(']', colon) == std::string::npos;
  host_ = rest.substr(0, has_port ? colon : rest.size());
  port_ = has_port ? rest.substr(colon + 1) : "80";
  if (host_.starts_with('[') && host_.ends_with(']')) host_ = host_.substr(1, host_.size() - 2);
  if (host_.empty() || port_.empty()) throw std::invalid_argument(options_.url + ": names no host");

  asio::io_context context;
  std::exception_ptr failure;
  std::string models;
  asio::co_spawn(
      context,
      [&]() -> asio::awaitable<void> {
        models = co_await get("/v1/models");
        has_metrics_ = true;
        has_metrics_ = !server_of(MetricsPage(co_await metrics())).empty();
      },
      [&](std::exception_ptr thrown) { failure = thrown; });
  context.run();
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error(options_.url + "/v1/models: " + error.code().message());
  } catch (const std::exception& error) {
    throw std::runtime_error(options_.url + "/v1/models: " + error.what());
  }
  const Json list = Json::parse(models, nullptr, /*allow_exceptions=*/false);
  const Json first =
      list.is_object() && list.contains("data") && list["data"].is_array() && !list["data"].empty()
          ? list["data"].front()
          : Json::object();
  if (options_.model.empty()) options_.model = first.value("id", "");
  if (options_.model.empty())
    throw std::runtime_error(options_.url + "/v1/models: names no model; --model would");
  root_ =
      first.contains("root") && first["root"].is_string() ? first["root"].get<std::string>() : options_.model;
}

asio::awaitable<std::string> HttpTarget::get(std::string path) const {
  beast::tcp_stream stream = co_await connect(host_, port_);
  const auto request = request_for(http::verb::get, base_path_ + path, host_, options_.api_key);
  co_await http::async_write(stream, request, asio::use_awaitable);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  co_await http::async_read(stream, buffer, parser, asio::use_awaitable);
  if (parser.get().result() != http::status::ok)
    throw std::runtime_error(refusal(parser.get().result_int(), parser.get().body()));
  co_return std::move(parser.get().body());
}

asio::awaitable<std::string> HttpTarget::metrics() {
  if (!has_metrics_) co_return "";
  std::string page;
  try {
    page = co_await get("/metrics");
  } catch (const std::exception&) {
    // A server without them, or too busy: the figures are then unknown.
  }
  co_return page;
}

std::string HttpTarget::body_of(const LoadRequest& request) const {
  Json body{{"model", options_.model}};
  const auto units = std::span(request.units);
  if (options_.endpoint.ends_with("/chat/completions")) {
    Json messages = request.messages;
    if (messages.is_null()) {
      messages = Json::array();
      if (request.num_shared > 0)
        messages.push_back({{"role", "system"}, {"content", as_words(units.first(request.num_shared))}});
      messages.push_back(
          {{"role", "user"},
           {"content", units.empty() ? request.text : as_words(units.subspan(request.num_shared))}});
    }
    body["messages"] = std::move(messages);
  } else {
    if (!request.messages.is_null())
      throw std::runtime_error("the dataset holds messages: --endpoint /v1/chat/completions takes them");
    body["prompt"] = units.empty() ? request.text : as_words(units);
  }
  body["max_tokens"] = request.output_tokens;
  body["temperature"] = options_.temperature;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (options_.ignore_eos) body["ignore_eos"] = true;
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

asio::awaitable<TokenCounts> HttpTarget::send(const LoadRequest& request,
                                              const std::function<void()>& on_chunk) {
  auto message = request_for(http::verb::post, base_path_ + options_.endpoint, host_, options_.api_key);
  message.set(http::field::content_type, "application/json");
  message.body() = body_of(request);
  message.prepare_payload();
  beast::tcp_stream stream = co_await connect(host_, port_);
  co_await http::async_write(stream, message, asio::use_awaitable);

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  co_await http::async_read_header(stream, buffer, parser, asio::use_awaitable);
  EventReader events;
  AnswerReader answer(on_chunk);
  const bool ok = parser.get().result() == http::status::ok;
  while (!parser.is_done()) {
    co_await http::async_read_some(stream, buffer, parser, asio::use_awaitable);
    if (!ok) continue;
    for (const std::string& data : events.feed(parser.get().body())) answer.take(data);
    parser.get().body().clear();
  }
  if (!ok) throw std::runtime_error(refusal(parser.get().result_int(), parser.get().body()));
  co_return answer.counts();
}

}  // namespace redline::load
