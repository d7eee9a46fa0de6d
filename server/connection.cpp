#include "server/connection.h"

#include <poll.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "server/request_parser.h"
#include "server/transport.h"

namespace redline::server {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr int kClientGone = 499;
constexpr std::size_t kReadBytes = 4096, kReadBodyBytes = 64 << 10;

ApiError out_of_memory() {
  return ApiError(503, "there is no memory for the request now", "", "out_of_memory");
}

/// The client will send nothing more: it has gone.
bool has_closed(int socket) {
  pollfd asked{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
}

class HttpConnection final : public Connection, public Exchange {
 public:
  HttpConnection(std::unique_ptr<Transport> transport, const ConnectionContext& context,
                 std::chrono::milliseconds head_timeout, std::function<void()> opened)
      : transport_(std::move(transport)),
        limits_(context.limits),
        headers_(context.headers),
        handler_(context.handler),
        log_(context.log),
        stopping_(context.stopping),
        opened_(std::move(opened)),
        first_deadline_(std::chrono::steady_clock::now() + head_timeout),
        timer_(stream().get_executor()) {
    error_code ignored;  // no TCP, perhaps
    socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    // What a slow reader makes the kernel hold.
    socket().set_option(asio::socket_base::send_buffer_size(limits_.send_buffer_bytes), ignored);
  }

  asio::awaitable<void> serve() override {
    stream().expires_at(first_deadline_);
    if (const auto [error] = co_await transport_->begin(); error) co_return;
    co_await serve_requests();
    if (!streaming_ && !gone_) {
      stream().expires_after(std::chrono::seconds(1));
      co_await transport_->end();
    }
    error_code ignored;
    socket().shutdown(Socket::shutdown_both, ignored);
    stream().close();
  }
  void stop() override {
    if (idle_) stream().cancel();
  }

  const HttpRequest& request() const override { return request_; }
  asio::any_io_executor executor() const override { return transport_->stream().get_executor(); }

  asio::awaitable<void> respond(HttpResponse response) override {
    std::string bytes = head(response.status, response.headers, response.content_type,
                             "Content-Length: " + std::to_string(response.body.size()) + "\r\n");
    if (!head_only_) bytes += response.body;
    co_await write_all(std::move(bytes));
    answered_ = true;
  }

  asio::awaitable<void> begin_events() override {
    if (version_ < 11) keep_alive_ = false;
    answered_ = streaming_ = true;
    const Headers headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    const std::string framing = version_ >= 11 ? "Transfer-Encoding: chunked\r\n" : "";
    co_await write_all(head(200, headers, "text/event-stream", framing));
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
      bool read = false;
      std::optional<ApiError> refusal;
      try {
        read = co_await read_request();
      } catch (const ApiError& error) {
        refusal = error;
      } catch (const std::bad_alloc&) {
        refusal = out_of_memory();
      }
      timer_.cancel();
      if (refusal) {
        keep_alive_ = false;
        co_await respond(refusal->response());
        break;
      }
      if (!read) break;
      co_await handle();
      if (!keep_alive_) break;
    }
  }

  Transport::Stream& stream() { return transport_->stream(); }
  Socket& socket() { return transport_->socket(); }

  // The time-out is for each part that the socket takes: who reads slowly is no stalled reader.
  asio::awaitable<void> write_all(std::string bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
      stream().expires_after(limits_.write_timeout);
      done += co_await transport_->write_some(asio::buffer(bytes) + done);
    }
  }

  /// False where there is no more to come, or it took too long.
  asio::awaitable<bool> read_some(std::size_t most) {
    for (;;) {
      const std::size_t had = received_.size();
      received_.resize(had + most);
      const auto [error, bytes] = co_await transport_->read_some(asio::buffer(received_) + had);
      received_.resize(had + bytes);
      if (!error) co_return true;
      error_code ignored;
      if (!late_ || in_grace_ || socket().available(ignored) == 0) co_return false;
      in_grace_ = true;  // it came, and this server was late to look
      end_reading_at(std::chrono::steady_clock::now() + std::chrono::seconds(1));
    }
  }

  /// False where the client went, or had nothing to ask in time.
  asio::awaitable<bool> wait_for_request(bool first) {
    in_grace_ = false;
    if (!received_.empty()) co_return true;
    idle_ = !first;
    end_reading_at(first ? first_deadline_ : std::chrono::steady_clock::now() + limits_.idle_timeout);
    const bool came = co_await read_some(kReadBytes);
    idle_ = false;
    co_return came;
  }

  asio::awaitable<void> begin_body(const RequestParser& parser) {
    if (opened_) std::exchange(opened_, {})();
    version_ = parser.version();
    if (parser.expects_continue() && !parser.is_done()) co_await write_all("HTTP/1.1 100 Continue\r\n\r\n");
    end_reading_at(std::chrono::steady_clock::now() + limits_.body_timeout);
  }

  /// False where the client has gone. Throws ApiError for what is no request.
  asio::awaitable<bool> read_request() {
    RequestParser parser(limits_);
    answered_ = streaming_ = gone_ = head_only_ = false;
    version_ = 11;
    request_ = {};
    if (!in_grace_)
      end_reading_at(opened_ ? first_deadline_ : std::chrono::steady_clock::now() + limits_.header_timeout);
    while (true) {
      const bool head_was_done = parser.head_is_done();
      const std::size_t taken = parser.read(received_);
      received_.erase(0, taken);
      if (parser.head_is_done() && !head_was_done) co_await begin_body(parser);
      if (parser.is_done()) break;
      if (taken > 0 && !received_.empty() && parser.head_is_done()) continue;
      if (!co_await read_some(parser.head_is_done() ? kReadBodyBytes : kReadBytes)) {
        if (late_) throw ApiError(408, "the request did not come in time", "", "request_timeout");
        co_return false;
      }
    }
    keep_alive_ = parser.keep_alive();
    request_ = parser.take();
    head_only_ = request_.method == "HEAD";
    if (received_.empty()) received_.shrink_to_fit();  // thousands may wait for their answers
    co_return true;
  }
  /// The stream's own time-out would close it, with nobody told why.
  void end_reading_at(std::chrono::steady_clock::time_point time) {
    late_ = false;
    stream().expires_never();
    timer_.expires_at(time);
    timer_.async_wait([this, alive = std::weak_ptr<char>(alive_)](error_code cancelled) {
      if (cancelled || alive.expired()) return;
      late_ = true;
      stream().cancel();
    });
  }

  asio::awaitable<void> handle() {
    const auto start = std::chrono::steady_clock::now();
    status_ = kClientGone;
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
    } catch (const std::bad_alloc&) {
      refusal = out_of_memory().response();
      failure = std::current_exception();
    } catch (const std::exception& error) {
      refusal = ApiError(500, error.what(), "", "internal_error").response();
      failure = std::current_exception();
    }
    closed_ = {};
    error_code ignored;
    socket().cancel(ignored);  // the watch
    timer_.cancel();
    if (failure && !answered_ && !gone_) co_await respond(std::move(refusal));
    if (streaming_ || gone_) keep_alive_ = false;
    if (log_) log_(request_, status_, std::chrono::steady_clock::now() - start);
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

  /// The status line and all headers, with `framing` among them.
  std::string head(int status, const Headers& headers, const std::string& content_type,
                   const std::string& framing) {
    if (stopping_) keep_alive_ = false;
    status_ = status;
    std::string text = version_ >= 11 ? "HTTP/1.1 " : "HTTP/1.0 ";
    text += std::to_string(status) + " ";
    text += http::obsolete_reason(static_cast<http::status>(status));
    text += "\r\nServer: redline\r\nContent-Type: " + content_type + "\r\n";
    const auto id = request_.header("X-Request-Id");
    if (!id.empty() && id.size() <= 256) text += "X-Request-Id: " + std::string(id) + "\r\n";
    for (const Headers* some : {&headers_, &headers})
      for (const auto& [name, value] : *some) text += name + ": " + value + "\r\n";
    if (keep_alive_ != (version_ >= 11))
      text += keep_alive_ ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
    return text + framing + "\r\n";
  }

  const std::unique_ptr<Transport> transport_;
  std::string received_;  // and not read yet
  const HttpLimits& limits_;
  const Headers& headers_;
  const Handler& handler_;
  const RequestLog& log_;
  const bool& stopping_;
  std::function<void()> opened_;  // until the first head is there
  const std::chrono::steady_clock::time_point first_deadline_;
  HttpRequest request_;
  unsigned version_ = 11;
  int status_ = kClientGone;  // that was sent
  bool keep_alive_ = true, head_only_ = false;
  bool answered_ = false, streaming_ = false;  // headers were sent; events are under way
  bool idle_ = false, gone_ = false;
  std::function<void()> closed_;
  asio::steady_timer timer_;  // ends reading, or looks after the client while an answer is under way
  bool late_ = false;         // reading was ended by it,
  bool in_grace_ = false;     // and goes on for a little while
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

bool timed_out(const error_code& error) { return error == boost::beast::error::timeout; }

std::unique_ptr<Connection> make_connection(Socket socket, asio::ssl::context* tls,
                                            const ConnectionContext& context,
                                            std::chrono::milliseconds head_timeout,
                                            std::function<void()> opened) {
  return std::make_unique<HttpConnection>(
      tls ? make_tls_transport(std::move(socket), *tls) : make_plain_transport(std::move(socket)), context,
      head_timeout, std::move(opened));
}

}  // namespace redline::server
