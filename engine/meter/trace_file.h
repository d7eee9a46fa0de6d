// A file of Chrome trace events: what Perfetto (ui.perfetto.dev) and chrome://tracing open.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace redline {

/// The `args` of an event: a JSON object, written as it grows.
class TraceArgs {
 public:
  TraceArgs& add(std::string_view key, std::int64_t value);
  /// Six digits; what is no number is null.
  TraceArgs& add(std::string_view key, double value);
  TraceArgs& add(std::string_view key, std::string_view value);
  TraceArgs& add(std::string_view key, const TraceArgs& value);
  std::string json() const { return "{" + members_ + "}"; }

 private:
  void begin(std::string_view key);
  std::string members_;
};

/// A row of the timeline, within a group of rows that is drawn together.
struct TraceTrack {
  std::int64_t group = 0, row = 0;
};

/// Writes events as they come and keeps at most kMaxHeldBytes of them. They reach the file whole, so that a
/// process that is killed leaves an array that lacks its closing bracket alone, as the format permits, and at
/// most the events since the last flush(). Times are nanoseconds since the trace's beginning. What is on one
/// row must nest. Not thread-safe.
class TraceFile {
 public:
  static constexpr std::size_t kMaxHeldBytes = 64 << 10;

  /// Throws std::runtime_error naming the file when it cannot be opened.
  explicit TraceFile(std::string path);
  /// Closes, ignoring errors.
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  void name_group(std::int64_t group, std::string_view name);
  void name_row(TraceTrack track, std::string_view name);
  void span(TraceTrack track, std::string_view name, std::int64_t start_ns, std::int64_t ns,
            const TraceArgs& args);
  /// A span that shut() ends; one without an end is drawn to the end of the trace.
  void open(TraceTrack track, std::string_view name, std::int64_t at_ns);
  void shut(TraceTrack track, std::int64_t at_ns, const TraceArgs& args);
  /// A graph for each of the values, which hold until the next event of this name.
  void counter(std::int64_t group, std::string_view name, std::int64_t at_ns, const TraceArgs& values);

  /// Hands what is held to the system.
  void flush();
  /// Throws std::runtime_error when something could not be written.
  void close();

 private:
  void begin(char type, TraceTrack track, std::string_view name);
  void add_time(const char* key, std::int64_t ns);
  void end(const TraceArgs& args);
  void name(const char* what, TraceTrack track, std::string_view text);

  std::string path_, held_;
  std::ofstream file_;
  bool first_ = true;
};

}  // namespace redline
