// The engine in this process, asked without a server between.
#pragma once

#include <functional>
#include <string>

#include "engine/engine.h"
#include "tools/load/target.h"

namespace redline::load {

class EngineTarget final : public Target {
 public:
  /// Keeps a reference to `engine`; `sampling` but for max_tokens is every request's; `page` writes metrics.
  EngineTarget(Engine& engine, SamplingParams sampling, std::function<std::string()> page)
      : engine_(engine), sampling_(std::move(sampling)), page_(std::move(page)) {}

  asio::awaitable<TokenCounts> send(const LoadRequest& request,
                                    const std::function<void()>& on_chunk) override;
  asio::awaitable<std::string> metrics() override { co_return page_(); }

 private:
  Engine& engine_;
  SamplingParams sampling_;
  std::function<std::string()> page_;
};

}  // namespace redline::load
