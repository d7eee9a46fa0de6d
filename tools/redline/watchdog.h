// Notices an engine that has work and makes no progress, or that has died, and ends the program.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "engine/engine.h"

namespace redline {

/// A thread that looks at the engine several times a second.
class Watchdog {
 public:
  /// Once the engine has had work for `patience` without a step, or has failed: writes its state to standard
  /// error, calls `give_up`, writes all threads' stacks where it has not failed, and after a grace of five
  /// seconds, in which clients are told, ends the program with status 1. `patience` 0: only a failure counts.
  /// Keeps a reference to `engine`.
  Watchdog(const Engine& engine, std::chrono::seconds patience, std::function<void()> give_up);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void run();

  const Engine& engine_;
  const std::chrono::seconds patience_;
  const std::function<void()> give_up_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace redline
