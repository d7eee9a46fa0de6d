// What is drawn on a terminal and never written to a pipe or a file.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace redline {

/// A bar on stderr while something loads; nothing where stderr is no terminal. Gone once destroyed.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// Bytes done of all; drawn ten times a second at most.
  void show(std::int64_t done, std::int64_t total);

 private:
  std::string label_;
  bool enabled_ = false;
  std::chrono::steady_clock::time_point last_drawn_;
};

/// A status line on stderr that is rewritten while text streams to stdout: the terminal's last row, below a
/// scroll region that the text keeps to, where both are the terminal. Nothing where stderr is no terminal.
class LiveLine {
 public:
  LiveLine();
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  /// Whether it is time to show() again: ten times a second at most, never where there is no terminal.
  bool due() const;
  void show(const std::string& text);

 private:
  bool enabled_ = false;
  bool below_text_ = false;
  int rows_ = 0;  // that the scroll region was set for; 0: not yet
  std::chrono::steady_clock::time_point last_drawn_;
};

/// The whole terminal of standard output, as it was once this is destroyed. Requires that it is one.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// Instead of what it showed: the lines and columns that fit.
  void show(const std::string& text);
};

/// While one lives, Ctrl-C is noted instead of ending the program; a second one ends it. Without one, Ctrl-C
/// ends the program with exit status 130 (handle_interrupts).
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  bool requested() const;
};

/// Installs the handler; once, at the program's start.
void handle_interrupts();

}  // namespace redline
