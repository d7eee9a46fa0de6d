#include "server/step_pace.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace redline::server {

struct StepPace::Progress {
  std::mutex mutex;
  std::condition_variable advanced;
  std::int64_t num_done = 0;
};

StepPace::StepPace(std::function<void(std::function<void()>)> post)
    : post_(std::move(post)), progress_(std::make_shared<Progress>()) {}

void StepPace::after_step() {
  post_([progress = progress_] {
    {
      const std::lock_guard lock(progress->mutex);
      ++progress->num_done;
    }
    progress->advanced.notify_one();
  });
  std::unique_lock lock(progress_->mutex);
  progress_->advanced.wait_for(lock, std::chrono::seconds(1),
                               [&] { return progress_->num_done >= num_posted_; });
  ++num_posted_;
}

}  // namespace redline::server
