// Sockets, HTTP/1.1 and server-sent events: everything below the routes. One thread runs it all.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/http.h"

namespace redline::server {

namespace asio = boost::asio;

/// One request and its answer: either respond(), or begin_events(), send() of events, end_events().
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual asio::any_io_executor executor() const = 0;

  virtual asio::awaitable<void> respond(HttpResponse response) = 0;
  /// The headers of a stream of events.
  virtual asio::awaitable<void> begin_events() = 0;
  /// Sends `bytes` and waits until the socket has taken them: nothing piles up behind a slow reader, who is
  /// cut off where he takes nothing for HttpLimits::write_timeout. Throws boost::system::system_error, with
  /// timed_out() or once the client is gone.
  virtual asio::awaitable<void> send(std::string bytes) = 0;
  /// The proper end of the stream; without it the connection is closed and the client knows that it broke
  /// off.
  virtual asio::awaitable<void> end_events() = 0;
  /// `closed` is called, once, when the client goes before its answer is whole.
  virtual void on_close(std::function<void()> closed) = 0;
};

/// Answers one request. What it throws ends as an error response, or, after begin_events, as a closed
/// connection.
using Handler = std::function<asio::awaitable<void>(Exchange&)>;

/// Told, on the server's thread, of a request once its answer has ended: the status that was sent, 499 where
/// the client went before, and how long it took since its body was read.
using RequestLog = std::function<void(const HttpRequest& request, int status, std::chrono::nanoseconds took)>;

/// Whether the error is that of a reader who took nothing for too long.
bool timed_out(const boost::system::error_code& error);

struct HttpLimits {
  std::uint64_t body_bytes = 32u << 20;
  std::uint32_t header_bytes = 64u << 10;
  std::size_t num_headers = 100;
  std::size_t num_connections = 20000;
  int send_buffer_bytes = 64 << 10;  // of the kernel, for each connection
  /// Connections of one address that have not sent the head of a request yet; those beyond get only
  /// `crowded_timeout` for it.
  std::size_t num_half_open = 64;
  std::chrono::seconds crowded_timeout{1};
  std::chrono::seconds header_timeout{10}, body_timeout{60}, idle_timeout{75}, write_timeout{30};
};

/// Where and how to listen.
struct HttpAddress {
  std::string host = {};
  std::uint16_t port = 0;      // 0: any free one
  std::string unix_path = {};  // of a socket, instead of both; one that nobody listens on is replaced
  std::string certificate_file = {}, key_file = {};  // PEM; both or neither: TLS
};

class HttpServer {
 public:
  /// Listens at once, so that port() is known. Throws std::runtime_error naming the address or the file.
  /// Every response has `headers`.
  HttpServer(const HttpAddress& address, HttpLimits limits, Headers headers, Handler handler,
             RequestLog log = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// 0 on a Unix socket.
  std::uint16_t port() const;
  /// Serves until stop(), on the calling thread.
  void run();
  /// From any thread: calls `what` on the server's.
  void post(std::function<void()> what);
  /// From any thread: calls `stopping` on the server's, then takes no new connections; those that wait for a
  /// request are closed, the others end after their answer. After `deadline`, `late` is called, which should
  /// end the answers that are left. run() returns once all have ended, at most two seconds after that; a
  /// second call makes it return at once.
  void stop(std::chrono::milliseconds deadline, std::function<void()> stopping = {},
            std::function<void()> late = {});
  /// After run(): ends the connections that are left. What is posted from then on is not called.
  void drop_connections();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace redline::server
