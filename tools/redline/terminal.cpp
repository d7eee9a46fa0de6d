#include "tools/redline/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "tools/redline/command.h"

namespace redline {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr int kBarWidth = 30;

bool can_draw_on(int descriptor) {
  const char* term = std::getenv("TERM");
  return isatty(descriptor) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

winsize terminal_size(int descriptor) {
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_row < 3 || size.ws_col < 20)
    size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  return size;
}

/// `text` cut to `columns` code points.
std::string cut(const std::string& text, int columns) {
  int points = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((text[i] & 0xC0) != 0x80 && points++ == columns) return text.substr(0, i);
  return text;
}

volatile std::sig_atomic_t guards = 0;
volatile std::sig_atomic_t interrupts = 0;

extern "C" void on_interrupt(int) {
  if (guards == 0 || interrupts > 0) _exit(kExitInterrupted);
  interrupts = interrupts + 1;
}

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), enabled_(can_draw_on(STDERR_FILENO)) {}

ProgressBar::~ProgressBar() {
  if (enabled_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::show(std::int64_t done, std::int64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || total <= 0 || now - last_drawn_ < kRedrawInterval) return;
  last_drawn_ = now;
  const auto filled = static_cast<std::size_t>(done * kBarWidth / total);
  const std::string bar =
      std::string(filled, '#') + std::string(static_cast<std::size_t>(kBarWidth) - filled, '.');
  std::fprintf(stderr, "\r%s [%s] %3d %%\033[K", label_.c_str(), bar.c_str(),
               static_cast<int>(100 * done / total));
}

LiveLine::LiveLine()
    : enabled_(can_draw_on(STDERR_FILENO)), below_text_(enabled_ && can_draw_on(STDOUT_FILENO)) {}

LiveLine::~LiveLine() {
  if (last_drawn_ == std::chrono::steady_clock::time_point()) return;
  std::fflush(stdout);
  if (below_text_)
    std::fprintf(stderr, "\0337\033[r\033[%d;1H\033[K\0338", rows_);
  else
    std::fputs("\r\033[K", stderr);
}

bool LiveLine::due() const {
  return enabled_ && std::chrono::steady_clock::now() - last_drawn_ >= kRedrawInterval;
}

void LiveLine::show(const std::string& text) {
  last_drawn_ = std::chrono::steady_clock::now();
  const winsize size = terminal_size(STDERR_FILENO);
  const std::string line = cut(text, size.ws_col - 1);
  std::fflush(stdout);
  if (!below_text_) {
    std::fprintf(stderr, "\r%s\033[K", line.c_str());
    return;
  }
  if (rows_ != size.ws_row) {
    // Make room for the line below the cursor, then keep the text above it. Setting a region moves the
    // cursor.
    rows_ = size.ws_row;
    std::fprintf(stderr, "\n\033[A\0337\033[1;%dr\0338", rows_ - 1);
  }
  std::fprintf(stderr, "\0337\033[%d;1H\033[7m%s\033[0m\033[K\0338", rows_, line.c_str());
}

Screen::Screen() { std::fputs("\033[?1049h\033[?25l", stdout); }

Screen::~Screen() {
  std::fputs("\033[?25h\033[?1049l", stdout);
  std::fflush(stdout);
}

void Screen::show(const std::string& text) {
  const winsize size = terminal_size(STDOUT_FILENO);
  std::string drawn = "\033[H";
  std::size_t begin = 0;
  for (int row = 0; row < size.ws_row && begin < text.size(); ++row) {
    const auto end = std::min(text.find('\n', begin), text.size());
    drawn += (row > 0 ? "\r\n" : "") + cut(text.substr(begin, end - begin), size.ws_col) + "\033[K";
    begin = end + 1;
  }
  std::fputs((drawn + "\033[J").c_str(), stdout);
  std::fflush(stdout);
}

InterruptGuard::InterruptGuard() {
  interrupts = 0;
  guards = guards + 1;
}

InterruptGuard::~InterruptGuard() { guards = guards - 1; }

bool InterruptGuard::requested() const { return interrupts > 0; }

void handle_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

}  // namespace redline
