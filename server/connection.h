// One client's connection: HTTP/1.1 over a socket, plain or in TLS.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <chrono>
#include <functional>
#include <memory>

#include "server/http_server.h"

namespace boost::asio::ssl {
class context;
}

namespace redline::server {

/// What all connections of a server share; outlives them.
struct ConnectionContext {
  const HttpLimits& limits;
  const Headers& headers;
  const Handler& handler;
  const RequestLog& log;  // may be empty
  const bool& stopping;
};

class Connection {
 public:
  virtual ~Connection() = default;
  /// Answers requests until the client or the server ends it.
  virtual asio::awaitable<void> serve() = 0;
  /// Ends a connection that waits for its next request.
  virtual void stop() = 0;
};

/// `head_timeout`: until the first request's head must be there; `opened` is called once it is. `tls`: null
/// for a plain connection.
std::unique_ptr<Connection> make_connection(asio::generic::stream_protocol::socket socket,
                                            asio::ssl::context* tls, const ConnectionContext& context,
                                            std::chrono::milliseconds head_timeout,
                                            std::function<void()> opened);

}  // namespace redline::server
