#include "server/http_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <list>
#include <utility>

namespace redline::server {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// What waits in the kernel for one reader; left to itself it would grow to megabytes before a stalled one
// shows.
constexpr int kSendBufferBytes = 64 << 10;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

HttpRequest to_request(http::request<http::string_body>&& message) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string target(message.target());
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  for (const auto& field : message) request.headers.emplace_back(field.name_string(), field.value());
  request.body = std::move(message.body());
  return request;
}

/// The status of a request that could not be read; 0 where there is nobody to tell.
int status_of(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  if (error == http::error::body_limit) return 413;
  if (error == beast::error::timeout) return 408;
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message)
    return 400;
  return 0;
}

class Connection final : public Exchange {
 public:
  Connection(tcp::socket socket, const HttpLimits& limits, const Headers& headers, const Handler& handler,
             const bool& stopping)
      : executor_(socket.get_executor()),
        stream_(std::move(socket)),
        limits_(limits),
        headers_(headers),
        handler_(handler),
        stopping_(stopping) {
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    stream_.socket().set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
    buffer_.max_size(limits.header_bytes + 65536);
  }

  asio::awaitable<void> serve() {
    bool first = true;
    while (!stopping_ || first) {
      if (!co_await wait_for_request(first)) break;
      first = false;
      const int bad = co_await read_request();
      if (bad < 0) break;
      if (bad > 0) {
        keep_alive_ = false;
        co_await respond(ApiError(bad, bad == 408 ? "the request did not come in time"
                                                  : "not an HTTP request that "
                                                    "can be served")
                             .response());
        break;
      }
      co_await handle();
      if (!keep_alive_) break;
    }
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.close();
  }
  /// Ends a connection that waits for its next request.
  void stop() {
    if (idle_) stream_.cancel();
  }
  void close() { stream_.close(); }

  const HttpRequest& request() const override { return request_; }
  asio::any_io_executor executor() const override { return executor_; }

  asio::awaitable<void> respond(HttpResponse response) override {
    http::response<http::string_body> message(static_cast<http::status>(response.status), version_);
    prepare(message, response.headers, response.content_type);
    message.body() = std::move(response.body);
    message.prepare_payload();
    stream_.expires_after(limits_.write_timeout);
    if (head_only_) {
      http::response_serializer<http::string_body> serializer(message);
      co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
    } else {
      co_await http::async_write(stream_, message, asio::use_awaitable);
    }
    answered_ = true;
  }

  asio::awaitable<void> begin_events() override {
    http::response<http::empty_body> message(http::status::ok, version_);
    prepare(message, {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}, "text/event-stream");
    message.chunked(version_ >= 11);
    if (version_ < 11) keep_alive_ = false;
    http::response_serializer<http::empty_body> serializer(message);
    stream_.expires_after(limits_.write_timeout);
    answered_ = streaming_ = true;
    co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
  }

  asio::awaitable<void> send(std::string bytes) override {
    stream_.expires_after(limits_.write_timeout);
    if (version_ >= 11)
      co_await asio::async_write(stream_, http::make_chunk(asio::buffer(bytes)), asio::use_awaitable);
    else
      co_await asio::async_write(stream_, asio::buffer(bytes), asio::use_awaitable);
  }

  asio::awaitable<void> end_events() override {
    streaming_ = false;
    stream_.expires_after(limits_.write_timeout);
    if (version_ >= 11) co_await asio::async_write(stream_, http::make_chunk_last(), asio::use_awaitable);
  }

  void on_close(std::function<void()> closed) override {
    closed_ = std::move(closed);
    if (gone_ && closed_) std::exchange(closed_, {})();
  }

 private:
  /// False where the client went, or had nothing to ask in time.
  asio::awaitable<bool> wait_for_request(bool first) {
    if (buffer_.size() > 0) co_return true;
    idle_ = !first;
    stream_.expires_after(first ? limits_.header_timeout : limits_.idle_timeout);
    const auto [error, bytes] = co_await stream_.async_read_some(buffer_.prepare(4096), kNoThrow);
    idle_ = false;
    buffer_.commit(bytes);
    co_return !error;
  }

  /// 0, the status of a bad request, or -1 where the client has gone.
  asio::awaitable<int> read_request() {
    http::request_parser<http::string_body> parser;
    parser.header_limit(limits_.header_bytes);
    parser.body_limit(limits_.body_bytes);
    answered_ = streaming_ = gone_ = head_only_ = false;
    version_ = 11;
    stream_.expires_after(limits_.header_timeout);
    auto [header_error, header_bytes] = co_await http::async_read_header(stream_, buffer_, parser, kNoThrow);
    if (header_error) co_return fail(header_error);
    const auto& head = parser.get();
    version_ = head.version();
    if (static_cast<std::size_t>(std::distance(head.begin(), head.end())) > limits_.num_headers)
      co_return 431;
    if (beast::iequals(head[http::field::expect], "100-continue")) {
      http::response<http::empty_body> proceed(http::status::continue_, version_);
      co_await http::async_write(stream_, proceed, kNoThrow);
    }
    stream_.expires_after(limits_.body_timeout);
    auto [error, bytes] = co_await http::async_read(stream_, buffer_, parser, kNoThrow);
    if (error) co_return fail(error);
    keep_alive_ = parser.get().keep_alive();
    head_only_ = parser.get().method() == http::verb::head;
    request_ = to_request(parser.release());
    co_return 0;
  }
  static int fail(const error_code& error) {
    const int status = status_of(error);
    return status > 0 ? status : -1;
  }

  asio::awaitable<void> handle() {
    watch();
    std::exception_ptr failure;
    HttpResponse refusal;
    try {
      co_await handler_(*this);
    } catch (const ApiError& error) {
      refusal = error.response();
      failure = std::current_exception();
    } catch (const boost::system::system_error&) {
      keep_alive_ = false;  // the client went
      answered_ = true;
    } catch (const std::exception& error) {
      refusal = ApiError(500, error.what()).response();
      failure = std::current_exception();
    }
    closed_ = {};
    error_code ignored;
    stream_.socket().cancel(ignored);  // the watch
    if (failure && !answered_ && !gone_) co_await respond(std::move(refusal));
    if (streaming_ || gone_) keep_alive_ = false;
  }

  /// Until the answer is whole: notices a client that closes its end.
  void watch() {
    stream_.socket().async_wait(
        tcp::socket::wait_read, [this, alive = std::weak_ptr<char>(alive_)](error_code error) {
          if (error || alive.expired()) return;
          char byte;
          error_code peeked;
          stream_.socket().non_blocking(true, peeked);
          const auto bytes =
              stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, peeked);
          if (bytes > 0 || peeked == asio::error::would_block) return;  // the next request already
          gone_ = true;
          if (closed_) std::exchange(closed_, {})();
        });
  }

  template <class Message>
  void prepare(Message& message, const Headers& headers, const std::string& content_type) {
    message.set(http::field::server, "redline");
    message.set(http::field::content_type, content_type);
    const auto id = request_.header("X-Request-Id");
    if (!id.empty() && id.size() <= 256) message.set("X-Request-Id", id);
    for (const Headers* some : {&headers_, &headers})
      for (const auto& [name, value] : *some) message.set(name, value);
    message.keep_alive(keep_alive_ && !stopping_);
    if (stopping_) keep_alive_ = false;
  }

  const asio::any_io_executor executor_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  const HttpLimits& limits_;
  const Headers& headers_;
  const Handler& handler_;
  const bool& stopping_;
  HttpRequest request_;
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false;
  bool answered_ = false, streaming_ = false;  // headers were sent; events are under way
  bool idle_ = false, gone_ = false;
  std::function<void()> closed_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const std::string& host, std::uint16_t port, HttpLimits limits, Headers headers, Handler handler)
      : limits_(limits),
        headers_(std::move(headers)),
        handler_(std::move(handler)),
        acceptor_(context_),
        deadline_(context_) {
    try {
      tcp::resolver resolver(context_);
      const tcp::endpoint endpoint =
          *resolver.resolve(host, std::to_string(port), tcp::resolver::passive).begin();
      acceptor_.open(endpoint.protocol());
      acceptor_.set_option(tcp::acceptor::reuse_address(true));
      acceptor_.bind(endpoint);
      acceptor_.listen(4096);
    } catch (const boost::system::system_error& error) {
      throw std::runtime_error(host + ":" + std::to_string(port) + ": " + error.code().message());
    }
  }

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void run() {
    asio::co_spawn(context_, accept(), asio::detached);
    context_.run();
  }

  void stop(std::chrono::milliseconds deadline, std::function<void()> stopping) {
    asio::post(context_, [this, deadline, stopping = std::move(stopping)] {
      if (stopping_) return context_.stop();
      if (stopping) stopping();
      stopping_ = true;
      error_code ignored;
      acceptor_.close(ignored);
      for (Connection* connection : connections_) connection->stop();
      deadline_.expires_after(deadline);
      deadline_.async_wait([this](error_code error) {
        if (!error) context_.stop();
      });
      if (connections_.empty()) deadline_.cancel();
    });
  }

 private:
  asio::awaitable<void> accept() {
    while (acceptor_.is_open()) {
      auto [error, socket] = co_await acceptor_.async_accept(kNoThrow);
      if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) break;
      if (error || connections_.size() >= limits_.num_connections) {
        // Out of descriptors, or full: those that are here go on; wait for one of them to end.
        asio::steady_timer pause(context_, std::chrono::milliseconds(20));
        co_await pause.async_wait(kNoThrow);
        continue;
      }
      asio::co_spawn(context_, serve(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> serve(tcp::socket socket) {
    Connection connection(std::move(socket), limits_, headers_, handler_, stopping_);
    const auto place = connections_.insert(connections_.end(), &connection);
    try {
      co_await connection.serve();
    } catch (const boost::system::system_error&) {
      // The client went while it was answered.
    }
    connections_.erase(place);
    if (stopping_ && connections_.empty()) deadline_.cancel();
  }

  const HttpLimits limits_;
  const Headers headers_;
  const Handler handler_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer deadline_;
  std::list<Connection*> connections_;
  bool stopping_ = false;
};

HttpServer::HttpServer(const std::string& host, std::uint16_t port, HttpLimits limits, Headers headers,
                       Handler handler)
    : impl_(std::make_unique<Impl>(host, port, limits, std::move(headers), std::move(handler))) {}
HttpServer::~HttpServer() = default;
std::uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::run() { impl_->run(); }
void HttpServer::stop(std::chrono::milliseconds deadline, std::function<void()> stopping) {
  impl_->stop(deadline, std::move(stopping));
}

}  // namespace redline::server
