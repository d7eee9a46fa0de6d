// Who a load test asks.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "tools/load/workload.h"

namespace redline::load {

namespace asio = boost::asio;

struct TokenCounts {
  std::int64_t prompt = 0;
  std::int64_t cached = 0;  // of the prompt, found in a prefix cache
  std::int64_t output = 0;
  bool tells_cached = false;  // else cached is 0, whatever was cached
};

class Target {
 public:
  virtual ~Target() = default;
  /// Sends the request and waits for its answer, calling `on_chunk` at each of its chunks. Throws
  /// std::exception where there is no whole answer.
  virtual asio::awaitable<TokenCounts> send(const LoadRequest& request,
                                            const std::function<void()>& on_chunk) = 0;
  /// The metrics page as Prometheus reads it; empty where there is none.
  virtual asio::awaitable<std::string> metrics() = 0;
};

}  // namespace redline::load
