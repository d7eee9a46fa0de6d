#include "engine/meter/trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kProcess = 1, kSteps = 1, kOperations = 2;

double microseconds(std::int64_t ns) { return static_cast<double>(ns) / 1000; }

Json metadata(const char* what, int track, const std::string& name) {
  return {{"ph", "M"}, {"pid", kProcess}, {"tid", track}, {"name", what}, {"args", {{"name", name}}}};
}

Json span(int track, const std::string& name, std::int64_t start_ns, std::int64_t ns, Json args) {
  return {{"ph", "X"},
          {"pid", kProcess},
          {"tid", track},
          {"ts", microseconds(start_ns)},
          {"dur", microseconds(ns)},
          {"name", name},
          {"args", std::move(args)}};
}

Json counter(const char* name, std::int64_t at_ns, Json values) {
  return {{"ph", "C"},
          {"pid", kProcess},
          {"ts", microseconds(at_ns)},
          {"name", name},
          {"args", std::move(values)}};
}

Json counts_json(const Counts& c) {
  return {{"tokens", c.tokens},        {"wasted_tokens", c.wasted_tokens},
          {"flops", c.useful_flops()}, {"executed_flops", c.executed_flops()},
          {"bytes", c.min_bytes()},    {"declared_bytes", c.declared}};
}

std::string title(const StepCounts& step) {
  std::string text;
  for (const Phase phase : kAllPhases) {
    const Counts& c = step.phase[static_cast<std::size_t>(phase)];
    const std::int64_t tokens = c.tokens + c.wasted_tokens;
    if (tokens == 0) continue;
    if (!text.empty()) text.append(" + ");
    text.append(kPhaseNames[static_cast<int>(phase)]).append(" ").append(std::to_string(tokens));
  }
  return text.empty() ? "empty" : text;
}

}  // namespace

TraceWriter::TraceWriter(const std::string& path, const std::string& process_name)
    : path_(path), file_(path) {
  if (!file_) throw std::runtime_error("cannot open the trace file " + path + " for writing");
  write_event(metadata("process_name", kSteps, process_name).dump());
  write_event(metadata("thread_name", kSteps, "steps").dump());
  write_event(metadata("thread_name", kOperations, "operations, summed by kind").dump());
}

TraceWriter::~TraceWriter() {
  try {
    close();
  } catch (const std::runtime_error&) {
  }
}

void TraceWriter::add_step(const StepCounts& step, std::int64_t start_ns, std::int64_t wall_ns,
                           std::int64_t gap_ns) {
  if (origin_ns_ < 0) origin_ns_ = start_ns - gap_ns;
  const std::int64_t at = start_ns - origin_ns_;
  if (gap_ns > 0) write_event(span(kSteps, "gap", at - gap_ns, gap_ns, Json::object()).dump());
  Json args = {{"step", num_steps_++}, {"sequences", step.sequences.size()}};
  Counts both;
  for (const Phase phase : kAllPhases) {
    const Counts& c = step.phase[static_cast<std::size_t>(phase)];
    both += c;
    if (c.tokens + c.wasted_tokens > 0) args[kPhaseNames[static_cast<int>(phase)]] = counts_json(c);
  }
  write_event(span(kSteps, title(step), at, wall_ns, std::move(args)).dump());

  std::vector<std::size_t> kinds;
  for (std::size_t kind = 0; kind < kNumOpKinds; ++kind)
    if (step.kind_calls[kind] > 0) kinds.push_back(kind);
  std::stable_sort(kinds.begin(), kinds.end(),
                   [&](std::size_t a, std::size_t b) { return step.kind_ns[a] > step.kind_ns[b]; });
  std::int64_t next = at;
  for (const std::size_t kind : kinds) {
    write_event(
        span(kOperations, kOpKindNames[kind], next, step.kind_ns[kind], {{"calls", step.kind_calls[kind]}})
            .dump());
    next += step.kind_ns[kind];
  }

  if (wall_ns <= 0) return;
  const double seconds = static_cast<double>(wall_ns) * 1e-9;
  write_event(counter("tokens", at, {{"useful", both.tokens}, {"wasted", both.wasted_tokens}}).dump());
  write_event(
      counter("GFLOP/s", at, {{"useful", static_cast<double>(both.useful_flops()) * 1e-9 / seconds}}).dump());
  write_event(
      counter("GB/s", at, {{"compulsory", static_cast<double>(both.min_bytes()) * 1e-9 / seconds}}).dump());
}

void TraceWriter::close() {
  if (!file_.is_open()) return;
  file_ << "\n]\n";
  file_.close();
  if (!file_) throw std::runtime_error("cannot write the trace file " + path_);
}

void TraceWriter::write_event(const std::string& json) {
  file_ << (first_ ? "[\n" : ",\n") << json;
  first_ = false;
}

}  // namespace redline
