#include "server/http_server.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <map>
#include <new>
#include <optional>
#include <utility>

#include "server/connection.h"

namespace redline::server {
namespace {

using asio::generic::stream_protocol;
using asio::ip::tcp;
using boost::system::error_code;
using Unix = asio::local::stream_protocol;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr int kAcceptsAtOnce = 512;
constexpr auto kAcceptPause = std::chrono::milliseconds(20);

asio::ssl::context make_tls(const HttpAddress& address) {
  asio::ssl::context tls(asio::ssl::context::tls_server);
  tls.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                  asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                  asio::ssl::context::no_tlsv1_1);
  const std::string* file = &address.certificate_file;
  try {
    tls.use_certificate_chain_file(*file);
    file = &address.key_file;
    tls.use_private_key_file(*file, asio::ssl::context::pem);
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error(*file + ": " + error.code().message());
  }
  if (SSL_CTX_check_private_key(tls.native_handle()) != 1)
    throw std::runtime_error(address.key_file + ": is not the key of " + address.certificate_file);
  SSL_CTX_set_alpn_select_cb(
      tls.native_handle(),
      [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned in_size,
         void*) {
        constexpr unsigned char kHttp11[] = "\x08http/1.1";
        unsigned char* chosen = nullptr;
        if (SSL_select_next_proto(&chosen, size, kHttp11, sizeof kHttp11 - 1, in, in_size) !=
            OPENSSL_NPN_NEGOTIATED)
          return SSL_TLSEXT_ERR_NOACK;
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
      },
      nullptr);
  return tls;
}

/// A socket that an earlier server left; one that somebody listens on stays.
void remove_stale(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  asio::io_context context;
  Unix::socket probe(context);
  error_code error;
  probe.connect(Unix::endpoint(path), error);
  if (error == asio::error::connection_refused) ::unlink(path.c_str());
}

/// The client's address without its port; empty where there is none.
std::string address_of(const stream_protocol::socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  char text[INET6_ADDRSTRLEN] = "";
  if (error) return "";
  if (endpoint.protocol().family() == AF_INET)
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(endpoint.data())->sin_addr, text, sizeof text);
  if (endpoint.protocol().family() == AF_INET6)
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(endpoint.data())->sin6_addr, text,
                sizeof text);
  return text;
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpAddress& address, HttpLimits limits, Headers headers, Handler handler, RequestLog log)
      : limits_(limits),
        headers_(std::move(headers)),
        handler_(std::move(handler)),
        log_(std::move(log)),
        acceptor_(context_),
        deadline_(context_) {
    if (!address.certificate_file.empty() || !address.key_file.empty()) tls_.emplace(make_tls(address));
    const bool is_unix = !address.unix_path.empty();
    try {
      stream_protocol::endpoint endpoint;
      if (is_unix) {
        remove_stale(address.unix_path);
        endpoint = Unix::endpoint(address.unix_path);
      } else {
        tcp::resolver resolver(context_);
        endpoint = resolver.resolve(address.host, std::to_string(address.port), tcp::resolver::passive)
                       .begin()
                       ->endpoint();
      }
      acceptor_.open(endpoint.protocol());
      acceptor_.set_option(asio::socket_base::reuse_address(true));
      acceptor_.bind(endpoint);
      acceptor_.listen(4096);
    } catch (const boost::system::system_error& error) {
      throw std::runtime_error(
          (is_unix ? address.unix_path : address.host + ":" + std::to_string(address.port)) + ": " +
          error.code().message());
    }
    if (is_unix) unix_path_ = address.unix_path;
  }
  ~Impl() { close(); }

  std::uint16_t port() const {
    const auto endpoint = acceptor_.local_endpoint();
    switch (endpoint.protocol().family()) {
      case AF_INET:
        return ntohs(reinterpret_cast<const sockaddr_in*>(endpoint.data())->sin_port);
      case AF_INET6:
        return ntohs(reinterpret_cast<const sockaddr_in6*>(endpoint.data())->sin6_port);
      default:
        return 0;
    }
  }

  void run() {
    while (true) {
      try {
        if (!accepting_) asio::co_spawn(context_, accept(), asio::detached);
        context_.run();
        if (stopping_) return;
      } catch (const std::bad_alloc&) {
        // Ends what waited for the event, the acceptor perhaps; the others go on.
      }
      if (!stopping_) context_.restart();
    }
  }

  void post(std::function<void()> what) { asio::post(context_, std::move(what)); }

  void drop_connections() { context_.destroy_handlers(); }

  void stop(std::chrono::milliseconds deadline, std::function<void()> stopping, std::function<void()> late) {
    asio::post(context_, [this, deadline, stopping = std::move(stopping), late = std::move(late)] {
      if (stopping_) return context_.stop();
      if (stopping) stopping();
      stopping_ = true;
      close();
      for (Connection* connection : connections_) connection->stop();
      deadline_.expires_after(deadline);
      deadline_.async_wait([this, late](error_code error) {
        if (error) return;
        if (late) late();
        deadline_.expires_after(std::chrono::seconds(2));
        deadline_.async_wait([this](error_code ended) {
          if (!ended) context_.stop();
        });
      });
      if (connections_.empty()) deadline_.cancel();
    });
  }

 private:
  /// Listens no more; another server may take the address.
  void close() {
    error_code ignored;
    acceptor_.close(ignored);
    if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
    unix_path_.clear();
  }

  /// Counts a connection of its address from when it is accepted to its first request.
  class HalfOpen {
   public:
    HalfOpen(std::map<std::string, std::size_t>& counts, const std::string& address)
        : counts_(counts), place_(counts.try_emplace(address).first) {
      ++place_->second;
    }
    ~HalfOpen() {
      if (--place_->second == 0) counts_.erase(place_);
    }
    HalfOpen(const HalfOpen&) = delete;
    HalfOpen& operator=(const HalfOpen&) = delete;
    std::size_t count() const { return place_->second; }

   private:
    std::map<std::string, std::size_t>& counts_;
    std::map<std::string, std::size_t>::iterator place_;
  };

  /// True as long as it lives.
  class Accepting {
   public:
    explicit Accepting(bool& accepting) : accepting_(accepting) { accepting_ = true; }
    ~Accepting() { accepting_ = false; }
    Accepting(const Accepting&) = delete;
    Accepting& operator=(const Accepting&) = delete;

   private:
    bool& accepting_;
  };

  /// A connection's place among those that there are.
  class Listed {
   public:
    Listed(std::list<Connection*>& all, Connection* connection)
        : all_(all), place_(all.insert(all.end(), connection)) {}
    ~Listed() { all_.erase(place_); }
    Listed(const Listed&) = delete;
    Listed& operator=(const Listed&) = delete;

   private:
    std::list<Connection*>& all_;
    std::list<Connection*>::iterator place_;
  };

  asio::awaitable<void> accept() {
    const Accepting accepting(accepting_);
    asio::steady_timer pause(context_);
    while (acceptor_.is_open()) {
      bool accepted = false;
      try {
        accepted = co_await accept_next();
      } catch (const std::bad_alloc&) {
        // Those that are here go on.
      }
      if (accepted || !acceptor_.is_open()) continue;
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kNoThrow);
    }
  }

  /// False where there is no room for another connection now, or no descriptor.
  asio::awaitable<bool> accept_next() {
    if (connections_.size() >= limits_.num_connections) co_return false;
    auto [error, socket] = co_await acceptor_.async_accept(kNoThrow);
    if (error) co_return false;
    asio::co_spawn(context_, serve(std::move(socket)), asio::detached);
    take_waiting();
    co_return true;
  }

  // Those that wait already, some at a time: awaited one by one, each would cost a round of all streams'
  // events.
  void take_waiting() {
    error_code error;
    acceptor_.non_blocking(true, error);
    for (int i = 0;
         i < kAcceptsAtOnce && !error && connections_.size() + kAcceptsAtOnce < limits_.num_connections;
         ++i) {
      stream_protocol::socket socket(context_);
      acceptor_.accept(socket, error);
      if (!error) asio::co_spawn(context_, serve(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> serve(stream_protocol::socket socket) {
    const std::string address = address_of(socket);
    std::optional<HalfOpen> half_open;
    std::chrono::milliseconds head_timeout = limits_.header_timeout;
    if (!address.empty()) {
      half_open.emplace(half_open_, address);
      if (half_open->count() > limits_.num_half_open) head_timeout = limits_.crowded_timeout;
    }
    const auto connection = make_connection(std::move(socket), tls_ ? &*tls_ : nullptr,
                                            {limits_, headers_, handler_, log_, stopping_}, head_timeout,
                                            [&] { half_open.reset(); });
    try {
      const Listed listed(connections_, connection.get());
      co_await connection->serve();
    } catch (const std::exception&) {
      // The client went while it was answered, or memory is exhausted.
    }
    if (stopping_ && connections_.empty()) deadline_.cancel();
  }

  const HttpLimits limits_;
  const Headers headers_;
  const Handler handler_;
  const RequestLog log_;
  std::optional<asio::ssl::context> tls_;
  std::string unix_path_;
  // Outlive the context, which ends the connections that are left.
  std::map<std::string, std::size_t> half_open_;
  std::list<Connection*> connections_;
  bool accepting_ = false, stopping_ = false;
  /// Takes what is posted even when everything that waited in it is gone.
  struct Context : asio::io_context {
    using asio::io_context::io_context;
    void destroy_handlers() { shutdown(); }
  };
  Context context_{1};
  asio::basic_socket_acceptor<stream_protocol> acceptor_;
  asio::steady_timer deadline_;
};

HttpServer::HttpServer(const HttpAddress& address, HttpLimits limits, Headers headers, Handler handler,
                       RequestLog log)
    : impl_(std::make_unique<Impl>(address, limits, std::move(headers), std::move(handler), std::move(log))) {
}
HttpServer::~HttpServer() = default;
std::uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::run() { impl_->run(); }
void HttpServer::drop_connections() { impl_->drop_connections(); }
void HttpServer::post(std::function<void()> what) { impl_->post(std::move(what)); }
void HttpServer::stop(std::chrono::milliseconds deadline, std::function<void()> stopping,
                      std::function<void()> late) {
  impl_->stop(deadline, std::move(stopping), std::move(late));
}

}  // namespace redline::server
