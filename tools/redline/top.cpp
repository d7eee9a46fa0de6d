// redline top: what a server does, once a second.
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/system_error.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tools/load/http_target.h"
#include "tools/load/outside_page.h"
#include "tools/redline/command.h"
#include "tools/redline/outside_flags.h"
#include "tools/redline/terminal.h"
#include "tools/redline/top_view.h"

namespace redline {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kAnswerTimeout(10), kLatencyWindow(60);

struct TopFlags {
  std::string url, api_key;
  bool once = false, json = false;
  std::int32_t interval_s = 1;
  OutsideFlags outside;
};

using Subject = std::optional<OutsideFlags::Subject>;

struct Reading {
  Clock::time_point time;
  load::MetricsPage page{""};
};

/// Throws std::runtime_error naming the URL. `any`: not of Redline alone.
Reading read(const load::HttpTarget& server, const std::string& url, bool any) {
  boost::asio::io_context context;
  std::string text;
  std::exception_ptr failure;
  bool done = false;
  boost::asio::co_spawn(
      context, [&]() -> boost::asio::awaitable<void> { text = co_await server.get("/metrics"); },
      [&](std::exception_ptr thrown) {
        failure = thrown;
        done = true;
      });
  context.run_for(kAnswerTimeout);
  try {
    if (failure) std::rethrow_exception(failure);
    if (!done) throw std::runtime_error("no answer within 10 s");
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error(url + "/metrics: " + error.code().message());
  } catch (const std::exception& error) {
    throw std::runtime_error(url + "/metrics: " + error.what());
  }
  Reading reading{Clock::now(), load::MetricsPage(text)};
  if (const auto loaded = reading.page.sum("redline_load_progress_ratio");
      loaded && !reading.page.sum("redline_steps_total"))
    throw std::runtime_error(
        url + ": the model is being loaded: " + std::to_string(std::lround(100 * *loaded)) + " %");
  if (any && load::server_of(reading.page).empty())
    throw std::runtime_error(url + "/metrics: holds metrics of neither vLLM, SGLang, llama.cpp nor Redline");
  if (!any && !reading.page.sum("redline_steps_total"))
    throw std::runtime_error(
        url +
        "/metrics: holds none of Redline's metrics; redline serve has them, and of other servers "
        "--model MODEL --on DEVICE tells what can be known");
  return reading;
}

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

/// Sleeps; false where Ctrl-C came.
bool pause(const InterruptGuard& guard, std::int32_t interval_s) {
  const auto end = Clock::now() + std::chrono::seconds(interval_s);
  while (Clock::now() < end && !guard.requested()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  return !guard.requested();
}

/// What to print of the time between two readings, `base` the first of those whose latencies are shown.
std::string shown(const TopFlags& flags, const Subject& subject, const load::MetricsPage& base,
                  const Reading& before, const Reading& now, const std::string& span) {
  const int indent = flags.once ? 2 : -1;
  const double wall_s = seconds(now.time - before.time);
  if (!subject) {
    const TopView view = top_view(base, before.page, now.page, wall_s);
    return flags.json ? to_json(view).dump(indent) + "\n" : to_text(view, span);
  }
  const auto counts = load::counts_between(before.page, now.page, subject->limits);
  if (!counts) throw std::runtime_error(flags.url + "/metrics: does not count tokens, or was started anew");
  const OutsideView view = subject->seen(load::view_between(before.page, now.page, *counts, wall_s));
  return flags.json ? to_json(view).dump(indent) + "\n" : to_text(view);
}

/// Whether the server was started anew between two pages.
bool restarted_between(const load::MetricsPage& before, const load::MetricsPage& now) {
  if (now.sum("redline_steps_total"))
    return now.sum("redline_steps_total") < before.sum("redline_steps_total");
  return !load::counts_between(before, now, {});
}

/// The page at the start, and then again and again; drawn over the last one on a terminal.
int watch(const load::HttpTarget& server, const TopFlags& flags, const Subject& subject) {
  const InterruptGuard guard;
  std::deque<Reading> readings = {read(server, flags.url, subject.has_value())};
  std::unique_ptr<Screen> screen;
  if (!flags.json && isatty(STDOUT_FILENO) == 1) screen = std::make_unique<Screen>();
  while (pause(guard, flags.interval_s)) {
    std::string text;
    try {
      readings.push_back(read(server, flags.url, subject.has_value()));
      const bool restarted = restarted_between(readings[readings.size() - 2].page, readings.back().page);
      if (restarted) readings.erase(readings.begin(), readings.end() - 1);
      while (readings.size() > 2 && readings.back().time - readings[1].time > kLatencyWindow)
        readings.pop_front();
      if (restarted) continue;
      text = shown(flags, subject, readings.front().page, readings[readings.size() - 2], readings.back(),
                   "last minute");
    } catch (const std::runtime_error& error) {
      if (!screen) throw;
      text = std::string(error.what()) + "\n";  // it may come back
    }
    if (screen) {
      screen->show(text + "\nCtrl-C ends this\n");
    } else {
      std::fputs((text + (flags.json ? "" : "\n")).c_str(), stdout);
      std::fflush(stdout);
    }
  }
  return kExitInterrupted;
}

int top(const TopFlags& flags) {
  load::HttpOptions options;
  options.url = flags.url;
  options.api_key = flags.api_key;
  const load::HttpTarget server(options);
  Subject subject;
  if (!flags.outside.model.empty()) subject = flags.outside.subject();
  if (!flags.once) return watch(server, flags, subject);
  const Reading before = read(server, flags.url, subject.has_value());
  {
    const InterruptGuard guard;
    if (!pause(guard, flags.interval_s)) return kExitInterrupted;
  }
  const Reading now = read(server, flags.url, subject.has_value());
  std::fputs(shown(flags, subject, load::MetricsPage(""), before, now, "since its start").c_str(), stdout);
  return kExitDone;
}

}  // namespace

Action declare_top(Flags& flags) {
  const auto values = std::make_shared<TopFlags>();
  flags.argument("URL", "Of a server: http://127.0.0.1:8000", values->url);
  flags.text("--api-key", "KEY", "The key that the server asks for", values->api_key);
  flags.flag("--once", "Print one interval and end, instead of drawing each over the last", values->once);
  flags.number("--interval", "Seconds between two looks", values->interval_s, 1, 3600);
  flags.flag("--json", "Print one JSON object an interval", values->json);
  flags.text(
      "--model", "MODEL",
      "The server's model, for a vLLM, SGLang or llama.cpp: MFU and MBU, or their bounds, from its counters",
      values->outside.model);
  values->outside.add_to(flags);
  return [values] { return top(*values); };
}

}  // namespace redline
