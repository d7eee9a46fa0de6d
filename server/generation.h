// The engine's streams of one call, awaited on the server's thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "engine/engine.h"

namespace redline::server {

namespace asio = boost::asio;

/// Destroying it aborts what still runs.
class Generation {
 public:
  /// Submits `requests`. Throws std::invalid_argument where one can never run.
  Generation(asio::any_io_executor executor, Engine& engine, std::vector<Request> requests);

  struct Piece {
    std::size_t prompt = 0;  // which of the requests
    OutputEvent event;
  };
  /// What has come since, waiting for something; empty once all answers have ended.
  asio::awaitable<std::vector<Piece>> next();
  /// Ends the answers; next() then tells.
  void abort();
  /// Ends next() at once, whatever the engine does.
  void give_up();
  bool given_up() const;
  /// Tokens and work of all requests so far; no times.
  RequestUsage usage() const;
  /// The same of one request.
  RequestUsage usage(std::size_t prompt) const { return streams_[prompt]->usage(); }

 private:
  struct Signal;
  std::shared_ptr<Signal> signal_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace redline::server
