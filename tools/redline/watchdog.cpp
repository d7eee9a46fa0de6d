#include "tools/redline/watchdog.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "tools/redline/command.h"
#include "tools/redline/stacks.h"

namespace redline {
namespace {

constexpr auto kGrace = std::chrono::seconds(5);

void dump(const EngineStats& stats, double idle_s) {
  std::fprintf(stderr,
               "redline: the engine %s%s: no step for %.1f s; steps %lld, running %lld, waiting %lld, "
               "preemptions %lld, cache %.1f %% of %lld blocks\n",
               stats.failure.empty() ? "makes no progress" : "has stopped: ", stats.failure.c_str(), idle_s,
               static_cast<long long>(stats.num_steps), static_cast<long long>(stats.num_running),
               static_cast<long long>(stats.num_waiting), static_cast<long long>(stats.num_preemptions),
               100 * stats.kv_usage, static_cast<long long>(stats.num_blocks));
}

}  // namespace

Watchdog::Watchdog(const Engine& engine, std::chrono::seconds patience, std::function<void()> give_up)
    : engine_(engine), patience_(patience), give_up_(std::move(give_up)), thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

void Watchdog::run() {
  using Clock = std::chrono::steady_clock;
  auto progress = Clock::now();
  std::int64_t num_steps = -1;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stopped_.wait_for(lock, std::chrono::milliseconds(200), [this] { return stopping_; })) return;
    }
    const EngineStats stats = engine_.stats();
    const bool idle = stats.num_running + stats.num_waiting == 0;
    if (idle || std::exchange(num_steps, stats.num_steps) != stats.num_steps) progress = Clock::now();
    const auto waited = Clock::now() - progress;
    if (stats.failure.empty() && (patience_.count() == 0 || waited < patience_)) continue;
    dump(stats, std::chrono::duration<double>(waited).count());
    give_up_();
    if (stats.failure.empty()) dump_stacks();
    std::this_thread::sleep_for(kGrace);
    std::_Exit(kExitError);  // the engine's thread cannot be joined
  }
}

}  // namespace redline
