// Bytes to and from one client, over a socket as it is or in TLS.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <memory>
#include <tuple>

namespace boost::asio::ssl {
class context;
}

namespace redline::server {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;

class Transport {
 public:
  /// The socket, and when an operation on it has taken too long.
  using Stream = boost::beast::basic_stream<asio::generic::stream_protocol>;
  using error_code = boost::system::error_code;

  virtual ~Transport() = default;
  virtual Stream& stream() = 0;
  Socket& socket() { return stream().socket(); }

  /// What comes before the first byte.
  virtual asio::awaitable<std::tuple<error_code>> begin() = 0;
  virtual asio::awaitable<std::tuple<error_code, std::size_t>> read_some(asio::mutable_buffer into) = 0;
  /// How many of `bytes` were taken. Throws boost::system::system_error.
  virtual asio::awaitable<std::size_t> write_some(asio::const_buffer bytes) = 0;
  /// Says that nothing more comes.
  virtual asio::awaitable<std::tuple<error_code>> end() = 0;
};

std::unique_ptr<Transport> make_plain_transport(Socket socket);
/// `tls` outlives it.
std::unique_ptr<Transport> make_tls_transport(Socket socket, asio::ssl::context& tls);

}  // namespace redline::server
