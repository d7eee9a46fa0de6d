// An OpenAI-compatible server, asked over HTTP.
#pragma once

#include <memory>
#include <string>

#include "tools/load/target.h"

namespace redline::load {

struct HttpOptions {
  std::string url;                           // "http://host:port", a path before /v1 may follow
  std::string endpoint = "/v1/completions";  // or one that ends in /chat/completions
  std::string model;                         // empty: the first that the server names
  std::string api_key;                       // empty: none is sent
  bool ignore_eos = false;                   // a field that not every server knows
  double temperature = 0;
};

/// Each request has a connection of its own, whose making counts as part of its time.
class HttpTarget final : public Target {
 public:
  /// Asks the server for its models. Throws std::runtime_error naming the URL, or std::invalid_argument where
  /// it is none.
  explicit HttpTarget(HttpOptions options);

  /// What the server calls the model, and what it was loaded from.
  const std::string& model() const { return options_.model; }
  const std::string& root() const { return root_; }

  asio::awaitable<TokenCounts> send(const LoadRequest& request,
                                    const std::function<void()>& on_chunk) override;
  asio::awaitable<std::string> metrics() override;
  /// The body of the answer at `path`. Throws std::runtime_error.
  asio::awaitable<std::string> get(std::string path) const;

 private:
  std::string body_of(const LoadRequest& request) const;

  HttpOptions options_;
  std::string host_, port_, base_path_, root_;
  bool has_metrics_ = false;
};

}  // namespace redline::load
