#include "engine/constraint/mask_worker.h"

#include <utility>

namespace redline {

NextTokens next_tokens(Matcher& matcher) {
  NextTokens next{matcher.allowed(), false};
  next.may_end = matcher.may_end();
  return next;
}

MaskWorker::~MaskWorker() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::future<NextTokens> MaskWorker::begin(Matcher place) {
  std::packaged_task<NextTokens()> task([place = std::move(place)]() mutable { return next_tokens(place); });
  std::future<NextTokens> result = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  return result;
}

void MaskWorker::run() {
  for (;;) {
    std::packaged_task<NextTokens()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace redline
