#include "engine/meter/trace_file.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace redline {
namespace {

void append(std::string& text, std::int64_t value) {
  char digits[24];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_quoted(std::string& text, std::string_view content) {
  const bool is_plain = content.find_first_of("\"\\") == content.npos &&
                        content.find_first_not_of(
                            " !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`"
                            "abcdefghijklmnopqrstuvwxyz{|}~") == content.npos;
  if (is_plain)
    text.append("\"").append(content).append("\"");
  else
    text.append(nlohmann::json(content).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void TraceArgs::begin(std::string_view key) {
  if (!members_.empty()) members_ += ',';
  append_quoted(members_, key);
  members_ += ':';
}

TraceArgs& TraceArgs::add(std::string_view key, std::int64_t value) {
  begin(key);
  append(members_, value);
  return *this;
}

TraceArgs& TraceArgs::add(std::string_view key, double value) {
  begin(key);
  char digits[32] = "null";
  if (std::isfinite(value)) std::snprintf(digits, sizeof digits, "%.6g", value);
  members_ += digits;
  return *this;
}

TraceArgs& TraceArgs::add(std::string_view key, std::string_view value) {
  begin(key);
  append_quoted(members_, value);
  return *this;
}

TraceArgs& TraceArgs::add(std::string_view key, const TraceArgs& value) {
  begin(key);
  members_.append("{").append(value.members_).append("}");
  return *this;
}

TraceFile::TraceFile(std::string path) : path_(std::move(path)) {
  file_.rdbuf()->pubsetbuf(nullptr, 0);  // what is written is in the system's hands at once
  file_.open(path_);
  if (!file_) throw std::runtime_error("cannot open the trace file " + path_ + " for writing");
}

TraceFile::~TraceFile() {
  try {
    close();
  } catch (const std::runtime_error&) {
  }
}

void TraceFile::begin(char type, TraceTrack track, std::string_view name) {
  held_.append(std::exchange(first_, false) ? "[\n" : ",\n").append("{\"ph\":\"").push_back(type);
  held_.append("\",\"pid\":");
  append(held_, track.group);
  held_.append(",\"tid\":");
  append(held_, track.row);
  if (name.empty()) return;
  held_.append(",\"name\":");
  append_quoted(held_, name);
}

// The format counts microseconds.
void TraceFile::add_time(const char* key, std::int64_t ns) {
  held_.append(",\"").append(key).append("\":");
  append(held_, ns / 1000);
  const auto rest = static_cast<int>(ns % 1000);
  char digits[8];
  if (rest > 0) std::snprintf(digits, sizeof digits, ".%03d", rest), held_.append(digits);
}

void TraceFile::end(const TraceArgs& args) {
  held_.append(",\"args\":").append(args.json()).append("}");
  if (held_.size() >= kMaxHeldBytes) flush();
}

void TraceFile::name(const char* what, TraceTrack track, std::string_view text) {
  begin('M', track, what);
  end(TraceArgs().add("name", text));
}

void TraceFile::name_group(std::int64_t group, std::string_view text) {
  name("process_name", {group, 0}, text);
}

void TraceFile::name_row(TraceTrack track, std::string_view text) { name("thread_name", track, text); }

void TraceFile::span(TraceTrack track, std::string_view name, std::int64_t start_ns, std::int64_t ns,
                     const TraceArgs& args) {
  begin('X', track, name);
  add_time("ts", start_ns);
  add_time("dur", ns);
  end(args);
}

void TraceFile::open(TraceTrack track, std::string_view name, std::int64_t at_ns) {
  begin('B', track, name);
  add_time("ts", at_ns);
  end({});
}

void TraceFile::shut(TraceTrack track, std::int64_t at_ns, const TraceArgs& args) {
  begin('E', track, {});
  add_time("ts", at_ns);
  end(args);
}

void TraceFile::counter(std::int64_t group, std::string_view name, std::int64_t at_ns,
                        const TraceArgs& values) {
  begin('C', {group, 0}, name);
  add_time("ts", at_ns);
  end(values);
}

void TraceFile::flush() {
  file_.write(held_.data(), static_cast<std::streamsize>(held_.size()));
  held_.clear();
}

void TraceFile::close() {
  if (!file_.is_open()) return;
  held_.append(first_ ? "[\n]\n" : "\n]\n");
  flush();
  file_.close();
  if (!file_) throw std::runtime_error("cannot write the trace file " + path_);
}

}  // namespace redline
