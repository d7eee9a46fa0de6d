// HTTP as the routes see it: requests, responses, errors. No sockets.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redline::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // without the query
  std::string query;
  Headers headers;
  std::string body;

  /// The header's value, or nothing; names are compared without regard to case.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  Headers headers;
};

/// `text` with each %XX as the byte that it stands for; nothing where a % is followed by anything else.
std::optional<std::string> percent_decoded(std::string_view text);

/// A request that is refused: the OpenAI-shaped error that the client gets.
class ApiError : public std::runtime_error {
 public:
  /// `message` is cut off after 1,000 bytes; `param` is the field at fault, or empty; `code` a stable name;
  /// `headers` are the response's besides those of its status.
  ApiError(int status, const std::string& message, std::string param, std::string code, Headers headers = {})
      : std::runtime_error(message.substr(0, 1000)),
        status_(status),
        param_(std::move(param)),
        code_(std::move(code)),
        headers_(std::move(headers)) {}

  int status() const { return status_; }
  const std::string& code() const { return code_; }
  /// "invalid_request_error", "authentication_error", ...: what the status stands for.
  const char* type() const;
  /// {"error": {message, type, param, code}}
  std::string body() const;
  HttpResponse response() const;

 private:
  int status_;
  std::string param_, code_;
  Headers headers_;
};

}  // namespace redline::server
