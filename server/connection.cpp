#include "server/connection.h"

#include <poll.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cstdio>
#include <utility>

namespace redline::server {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using Socket = asio::generic::stream_protocol::socket;
using PlainStream = beast::basic_stream<asio::generic::stream_protocol>;
using TlsStream = beast::ssl_stream<PlainStream>;
using boost::system::error_code;

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
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message)
    return 400;
  return 0;
}

/// The client will send nothing more: it has gone.
bool has_closed(int socket) {
  pollfd asked{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
}

template <class Stream>
constexpr bool kIsTls = std::is_same_v<Stream, TlsStream>;

template <class Stream>
class StreamConnection final : public Connection, public Exchange {
 public:
  StreamConnection(Stream stream, const ConnectionContext& context, std::chrono::milliseconds head_timeout,
                   std::function<void()> opened)
      : stream_(std::move(stream)),
        limits_(context.limits),
        headers_(context.headers),
        handler_(context.handler),
        stopping_(context.stopping),
        opened_(std::move(opened)),
        first_deadline_(std::chrono::steady_clock::now() + head_timeout),
        timer_(stream_.get_executor()) {
    error_code ignored;  // no TCP, perhaps
    socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    // What a slow reader makes the kernel hold.
    socket().set_option(asio::socket_base::send_buffer_size(limits_.send_buffer_bytes), ignored);
    buffer_.max_size(limits_.header_bytes + 65536);
  }

  asio::awaitable<void> serve() override {
    if constexpr (kIsTls<Stream>) {
      lowest().expires_at(first_deadline_);
      const auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kNoThrow);
      if (error) co_return;
    }
    co_await serve_requests();
    error_code ignored;
    if constexpr (kIsTls<Stream>)
      if (!streaming_ && !gone_) {
        lowest().expires_after(std::chrono::seconds(1));
        co_await stream_.async_shutdown(kNoThrow);
      }
    socket().shutdown(Socket::shutdown_both, ignored);
    lowest().close();
  }
  void stop() override {
    if (idle_) lowest().cancel();
  }

  const HttpRequest& request() const override { return request_; }
  asio::any_io_executor executor() const override {
    return const_cast<StreamConnection*>(this)->stream_.get_executor();
  }

  asio::awaitable<void> respond(HttpResponse response) override {
    http::response<http::string_body> message(static_cast<http::status>(response.status), version_);
    prepare(message, response.headers, response.content_type);
    message.body() = std::move(response.body);
    message.prepare_payload();
    http::response_serializer<http::string_body> serializer(message);
    if (head_only_) {
      lowest().expires_after(limits_.write_timeout);
      co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
    } else {
      while (!serializer.is_done()) {
        lowest().expires_after(limits_.write_timeout);
        co_await http::async_write_some(stream_, serializer, asio::use_awaitable);
      }
    }
    answered_ = true;
  }

  asio::awaitable<void> begin_events() override {
    http::response<http::empty_body> message(http::status::ok, version_);
    prepare(message, {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}, "text/event-stream");
    message.chunked(version_ >= 11);
    if (version_ < 11) keep_alive_ = false;
    http::response_serializer<http::empty_body> serializer(message);
    lowest().expires_after(limits_.write_timeout);
    answered_ = streaming_ = true;
    co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
  }

  asio::awaitable<void> send(std::string bytes) override {
    if (version_ >= 11) {
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
      bytes = size + bytes + "\r\n";
    }
    co_await write_all(std::move(bytes));
  }

  asio::awaitable<void> end_events() override {
    streaming_ = false;
    if (version_ >= 11) co_await write_all("0\r\n\r\n");
  }

  void on_close(std::function<void()> closed) override {
    closed_ = std::move(closed);
    if (gone_ && closed_) std::exchange(closed_, {})();
  }

 private:
  asio::awaitable<void> serve_requests() {
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
  }

  PlainStream& lowest() { return beast::get_lowest_layer(stream_); }
  Socket& socket() { return lowest().socket(); }

  // The time-out is for each part that the socket takes: who reads slowly is no stalled reader.
  asio::awaitable<void> write_all(std::string bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
      lowest().expires_after(limits_.write_timeout);
      done += co_await stream_.async_write_some(asio::buffer(bytes) + done, asio::use_awaitable);
    }
  }

  /// False where the client went, or had nothing to ask in time.
  asio::awaitable<bool> wait_for_request(bool first) {
    if (buffer_.size() > 0) co_return true;
    idle_ = !first;
    if (first)
      lowest().expires_at(first_deadline_);
    else
      lowest().expires_after(limits_.idle_timeout);
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
    request_ = {};
    end_reading_at(opened_ ? first_deadline_ : std::chrono::steady_clock::now() + limits_.header_timeout);
    auto [header_error, header_bytes] = co_await http::async_read_header(stream_, buffer_, parser, kNoThrow);
    if (header_error) co_return fail(header_error);
    if (opened_) std::exchange(opened_, {})();
    const auto& head = parser.get();
    version_ = head.version();
    if (static_cast<std::size_t>(std::distance(head.begin(), head.end())) > limits_.num_headers)
      co_return 431;
    if (beast::iequals(head[http::field::expect], "100-continue")) {
      http::response<http::empty_body> proceed(http::status::continue_, version_);
      co_await http::async_write(stream_, proceed, kNoThrow);
    }
    end_reading_at(std::chrono::steady_clock::now() + limits_.body_timeout);
    auto [error, bytes] = co_await http::async_read(stream_, buffer_, parser, kNoThrow);
    if (error) co_return fail(error);
    timer_.cancel();
    keep_alive_ = parser.get().keep_alive();
    head_only_ = parser.get().method() == http::verb::head;
    request_ = to_request(parser.release());
    co_return 0;
  }
  int fail(const error_code& error) {
    timer_.cancel();
    if (late_) return 408;
    const int status = status_of(error);
    return status > 0 ? status : -1;
  }
  /// The stream's own time-out would close it, with nobody told why.
  void end_reading_at(std::chrono::steady_clock::time_point time) {
    late_ = false;
    lowest().expires_never();
    timer_.expires_at(time);
    timer_.async_wait([this, alive = std::weak_ptr<char>(alive_)](error_code cancelled) {
      if (cancelled || alive.expired()) return;
      late_ = true;
      lowest().cancel();
    });
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
    socket().cancel(ignored);  // the watch
    timer_.cancel();
    if (failure && !answered_ && !gone_) co_await respond(std::move(refusal));
    if (streaming_ || gone_) keep_alive_ = false;
  }

  /// Until the answer is whole: notices a client that closes its end.
  void watch() {
    socket().async_wait(Socket::wait_read, [this, alive = std::weak_ptr<char>(alive_)](error_code error) {
      if (error || alive.expired()) return;
      if (has_closed(socket().native_handle())) {
        gone_ = true;
        if (closed_) std::exchange(closed_, {})();
        return;
      }
      // There is something to read, the next request already: look again now and then.
      timer_.expires_after(std::chrono::milliseconds(50));
      timer_.async_wait([this, alive](error_code cancelled) {
        if (!cancelled && !alive.expired()) watch();
      });
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

  Stream stream_;
  beast::flat_buffer buffer_;
  const HttpLimits& limits_;
  const Headers& headers_;
  const Handler& handler_;
  const bool& stopping_;
  std::function<void()> opened_;  // until the first head is there
  const std::chrono::steady_clock::time_point first_deadline_;
  HttpRequest request_;
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false;
  bool answered_ = false, streaming_ = false;  // headers were sent; events are under way
  bool idle_ = false, gone_ = false;
  std::function<void()> closed_;
  asio::steady_timer timer_;  // ends reading, or looks after the client while an answer is under way
  bool late_ = false;         // reading was ended by it
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

bool timed_out(const error_code& error) { return error == beast::error::timeout; }

std::unique_ptr<Connection> make_connection(Socket socket, asio::ssl::context* tls,
                                            const ConnectionContext& context,
                                            std::chrono::milliseconds head_timeout,
                                            std::function<void()> opened) {
  PlainStream plain(std::move(socket));
  if (!tls)
    return std::make_unique<StreamConnection<PlainStream>>(std::move(plain), context, head_timeout,
                                                           std::move(opened));
  return std::make_unique<StreamConnection<TlsStream>>(TlsStream(std::move(plain), *tls), context,
                                                       head_timeout, std::move(opened));
}

}  // namespace redline::server
