#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "server/transport.h"

namespace redline::server {
namespace {

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(Socket socket) : stream_(std::move(socket)) {}

  Stream& stream() override { return stream_; }
  asio::awaitable<std::tuple<error_code>> begin() override { co_return error_code(); }
  asio::awaitable<std::tuple<error_code, std::size_t>> read_some(asio::mutable_buffer into) override {
    return stream_.async_read_some(into, asio::as_tuple(asio::use_awaitable));
  }
  asio::awaitable<std::size_t> write_some(asio::const_buffer bytes) override {
    return stream_.async_write_some(bytes, asio::use_awaitable);
  }
  asio::awaitable<std::tuple<error_code>> end() override { co_return error_code(); }

 private:
  Stream stream_;
};

}  // namespace

std::unique_ptr<Transport> make_plain_transport(Socket socket) {
  return std::make_unique<PlainTransport>(std::move(socket));
}

}  // namespace redline::server
