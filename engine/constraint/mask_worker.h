// What answers may say next, worked out beside the forward pass that needs it at its end.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/constraint/constraint.h"

namespace redline {

/// What a matcher allows at its place.
struct NextTokens {
  std::shared_ptr<const TokenMask> allowed;
  bool may_end = false;
};
/// Throws ConstraintError as Matcher::allowed does.
NextTokens next_tokens(Matcher& matcher);

/// One thread, started when there is something to do. begin() belongs to one thread too.
class MaskWorker {
 public:
  MaskWorker() = default;
  /// What has not begun is dropped: its futures break their promise.
  ~MaskWorker();
  MaskWorker(const MaskWorker&) = delete;
  MaskWorker& operator=(const MaskWorker&) = delete;

  /// next_tokens(place), once those asked for before are done.
  std::future<NextTokens> begin(Matcher place);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<NextTokens()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace redline
