// Holds the engine back where the server's thread cannot keep up with it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace redline::server {

/// What steps bring forth waits on the server's thread, without a bound of its own: so the engine may be two
/// steps ahead of that thread and no more.
class StepPace {
 public:
  /// `post` calls what it is given on the server's thread, in order, and may be called on any thread.
  explicit StepPace(std::function<void(std::function<void()>)> post);

  /// On the engine's thread, after a step. Waits until the server's thread has gone through all that was
  /// posted before the last call; a second at most, so that a server that ends holds up nobody.
  void after_step();

 private:
  struct Progress;
  const std::function<void(std::function<void()>)> post_;
  const std::shared_ptr<Progress> progress_;
  std::int64_t num_posted_ = 0;
};

}  // namespace redline::server
