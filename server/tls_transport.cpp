#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <utility>

#include "server/transport.h"

namespace redline::server {
namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

class TlsTransport final : public Transport {
 public:
  TlsTransport(Socket socket, asio::ssl::context& tls) : tls_(Stream(std::move(socket)), tls) {}

  Stream& stream() override { return tls_.next_layer(); }
  asio::awaitable<std::tuple<error_code>> begin() override {
    return tls_.async_handshake(asio::ssl::stream_base::server, kNoThrow);
  }
  asio::awaitable<std::tuple<error_code, std::size_t>> read_some(asio::mutable_buffer into) override {
    return tls_.async_read_some(into, kNoThrow);
  }
  asio::awaitable<std::size_t> write_some(asio::const_buffer bytes) override {
    return tls_.async_write_some(bytes, asio::use_awaitable);
  }
  asio::awaitable<std::tuple<error_code>> end() override { return tls_.async_shutdown(kNoThrow); }

 private:
  boost::beast::ssl_stream<Stream> tls_;
};

}  // namespace

std::unique_ptr<Transport> make_tls_transport(Socket socket, asio::ssl::context& tls) {
  return std::make_unique<TlsTransport>(std::move(socket), tls);
}

}  // namespace redline::server
