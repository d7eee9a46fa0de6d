#include "tools/redline/stacks.h"

#include <execinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace redline {
namespace {

constexpr int kMostFrames = 64;
std::atomic<bool> written;

void write_own_stack(int) {
  void* frames[kMostFrames];
  backtrace_symbols_fd(frames, backtrace(frames, kMostFrames), STDERR_FILENO);
  written = true;
}

}  // namespace

void dump_stacks() try {
  void* frames[1];
  backtrace(frames, 1);  // loads what it needs, which a signal's handler must not
  struct sigaction action {};
  action.sa_handler = write_own_stack;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  const long self = syscall(SYS_gettid);
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const long thread = std::stol(task.path().filename().string());
    if (thread == self) continue;
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    std::fprintf(stderr, "thread %ld (%s)\n", thread, name.c_str());
    std::fflush(stderr);
    written = false;
    if (syscall(SYS_tgkill, getpid(), thread, SIGUSR1) != 0) continue;
    for (int i = 0; i < 100 && !written; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
} catch (const std::filesystem::filesystem_error& error) {
  std::fprintf(stderr, "no stacks: %s\n", error.what());
}

}  // namespace redline
