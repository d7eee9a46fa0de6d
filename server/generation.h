// The engine's streams of one call, awaited on the server's thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"

namespace redline::server {

namespace asio = boost::asio;

/// Destroying it aborts what still runs. Belongs to the server's thread.
class Generation {
 public:
  /// What may wait for a reader, in bytes: for each of the answers, and for all together besides.
  static constexpr std::int64_t kMaxHeldBytes = 1 << 20, kMaxHeldBytesPerAnswer = 64 << 10;

  /// Submits `requests`. Throws std::invalid_argument where one can never run.
  Generation(asio::any_io_executor executor, Engine& engine, std::vector<Request> requests);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  struct Piece {
    std::size_t prompt = 0;  // which of the requests
    OutputEvent event;
  };
  /// While it lives, the reader is waited for: what comes is held for him. Where that becomes too much the
  /// answers end, and overrun() tells.
  class ReaderWait {
   public:
    explicit ReaderWait(Generation& generation) : generation_(generation) {
      generation_.waits_for_reader_ = true;
    }
    ~ReaderWait() { generation_.waits_for_reader_ = false; }
    ReaderWait(const ReaderWait&) = delete;
    ReaderWait& operator=(const ReaderWait&) = delete;

   private:
    Generation& generation_;
  };
  bool overrun() const { return overrun_; }
  /// What has come since, waiting for something; empty once all answers have ended.
  asio::awaitable<std::vector<Piece>> next();
  /// Ends the answers; next() then tells.
  void abort();
  /// Ends next() at once, whatever the engine does.
  void give_up();
  bool given_up() const;
  /// Tokens and work of all requests so far, and where the time of those that have ended went; no moments.
  RequestUsage usage() const;
  /// The same of one request.
  RequestUsage usage(std::size_t prompt) const { return streams_[prompt]->usage(); }

 private:
  struct Signal;
  void take();
  void hold();

  std::shared_ptr<Signal> signal_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Piece> pieces_;  // taken, and not handed out
  std::int64_t held_bytes_ = 0, max_held_bytes_ = kMaxHeldBytes;
  bool waits_for_reader_ = false, overrun_ = false;
};

}  // namespace redline::server
