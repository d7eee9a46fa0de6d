// HTTP/1.1 requests out of bytes, within limits.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "server/http_server.h"

namespace redline::server {

/// Reads one request.
class RequestParser {
 public:
  explicit RequestParser(const HttpLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// Reads on and returns how many of `bytes` were taken: none of an incomplete head, line of a chunk or
  /// trailer, which has to be given again with more, and may be as long as a head. Stops after the head, and
  /// after the request. Throws ApiError 400, 413 or 431 where they are no request that can be served. What it
  /// holds grows with what it was given.
  std::size_t read(std::string_view bytes);
  bool head_is_done() const;
  bool is_done() const;

  // Once the head is done:
  unsigned version() const;  // 10 or 11
  bool keep_alive() const;
  bool expects_continue() const;  // the client waits for a 100 before it sends the body
  /// The request; once it is done.
  HttpRequest take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace redline::server
