#include "engine/meter/trace.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "engine/engine.h"
#include "engine/meter/waterfall.h"

namespace redline {
namespace {

constexpr std::int64_t kEngine = 1, kRequests = 2;  // groups of rows
constexpr TraceTrack kSteps{kEngine, 1}, kOperations{kEngine, 2}, kStretches{kEngine, 3};
constexpr std::int64_t kFlushIntervalNs = 500'000'000;

TraceArgs counts_args(const Counts& c) {
  return TraceArgs()
      .add("tokens", c.tokens)
      .add("wasted_tokens", c.wasted_tokens)
      .add("flops", c.useful_flops())
      .add("executed_flops", c.executed_flops())
      .add("bytes", c.min_bytes())
      .add("declared_bytes", c.declared);
}

std::string title(const std::array<std::int64_t, kNumPhases>& tokens) {
  std::string text;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    if (tokens[p] == 0) continue;
    if (!text.empty()) text += " + ";
    text.append(kPhaseNames[p]).append(" ").append(std::to_string(tokens[p]));
  }
  return text.empty() ? "empty" : text;
}

std::int64_t rows_of(const Counts& c) { return c.tokens + c.wasted_tokens; }

// Of `ns` nanoseconds: integers that sum to it, kernel inefficiency being what remains.
TraceArgs waterfall_args(const Waterfall& terms, std::int64_t ns) {
  std::array<std::int64_t, kNumTerms> rounded{};
  constexpr auto kRest = static_cast<std::size_t>(Term::kKernelInefficiency);
  std::int64_t rest = ns;
  for (std::size_t i = 0; i < kNumTerms; ++i)
    if (i != kRest) rest -= rounded[i] = std::llround(terms.seconds[i] * 1e9);
  rounded[kRest] = rest;
  TraceArgs args;
  for (std::size_t i = 0; i < kNumTerms; ++i) args.add(kTermNames[i], rounded[i]);
  return args;
}

}  // namespace

std::int64_t TraceWriter::now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

TraceWriter::TraceWriter(const std::string& path, const std::string& name, DevicePeaks peaks,
                         std::int64_t origin_ns)
    : file_(path), origin_ns_(origin_ns), step_meter_(std::move(peaks), 0), last_end_ns_(origin_ns) {
  file_.name_group(kEngine, name);
  file_.name_group(kRequests, "requests");
  file_.name_row(kSteps, "steps");
  file_.name_row(kOperations, "operations, summed by kind");
  file_.name_row(kStretches, "measured");
}

void TraceWriter::add_step(const StepRecord& step) {
  ++num_steps_;
  const StepCounts& counts = *step.counts;
  const std::int64_t at = step.start_ns - origin_ns_;
  if (step.gap_ns > 0) file_.span(kSteps, "gap", at - step.gap_ns, step.gap_ns, {});
  TraceArgs args;
  args.add("step", num_steps_).add("sequences", std::ssize(counts.sequences));
  Counts both;
  std::int64_t in_vain = 0;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    both += counts.phase[p];
    in_vain += step.wasted_since[p].tokens;
    if (rows_of(counts.phase[p]) > 0) args.add(kPhaseNames[p], counts_args(counts.phase[p]));
  }
  if (in_vain > 0) args.add("earlier_tokens_in_vain", in_vain);
  file_.span(kSteps, title({rows_of(counts.phase[0]), rows_of(counts.phase[1])}), at, step.wall_ns, args);
  add_operations(counts, at);
  add_lanes(step);
  add_rates(both, at, step.wall_ns);
  add_waterfall(step);
  add_state(step);
  last_end_ns_ = step.start_ns + step.wall_ns;
  flush_sometimes(last_end_ns_);
}

void TraceWriter::add_operations(const StepCounts& counts, std::int64_t start_ns) {
  std::vector<std::size_t> kinds;
  for (std::size_t kind = 0; kind < kNumOpKinds; ++kind)
    if (counts.kind_calls[kind] > 0) kinds.push_back(kind);
  std::ranges::stable_sort(kinds, std::ranges::greater(), [&](std::size_t k) { return counts.kind_ns[k]; });
  for (const std::size_t kind : kinds) {
    file_.span(kOperations, kOpKindNames[kind], start_ns, counts.kind_ns[kind],
               TraceArgs().add("calls", std::int64_t{counts.kind_calls[kind]}));
    start_ns += counts.kind_ns[kind];
  }
}

TraceWriter::Lane& TraceWriter::open_lane(const RequestUsage& usage, std::int64_t queued_until_ns) {
  const TraceTrack track{kRequests, usage.id};
  file_.name_row(track, "request " + std::to_string(usage.id));
  file_.open(track, "request", usage.arrival_ns - origin_ns_);
  file_.span(track, "queued", usage.arrival_ns - origin_ns_, queued_until_ns - usage.arrival_ns, {});
  Lane& lane = lanes_[usage.id];
  lane.step = num_steps_;
  lane.end_ns = queued_until_ns;
  return lane;
}

// Steps that computed others alone.
void TraceWriter::add_wait(const Lane& lane, std::int64_t request, std::int64_t until_ns) {
  file_.span({kRequests, request}, lane.is_preempted ? "preempted" : "waiting", lane.end_ns - origin_ns_,
             until_ns - lane.end_ns, {});
}

void TraceWriter::add_lanes(const StepRecord& step) {
  computed_.clear();
  for (const SequenceStep& sequence : step.sequences) {
    const std::int64_t request = sequence.request->id;
    const auto found = lanes_.find(request);
    Lane& lane =
        found == lanes_.end() ? open_lane(*sequence.request, sequence.request->scheduled_ns) : found->second;
    if (lane.prefill_tokens + lane.decode_tokens == 0) computed_.push_back(request);
    (sequence.phase == Phase::kDecode ? lane.decode_tokens : lane.prefill_tokens) += sequence.num_tokens;
    lane.recomputed_tokens += sequence.num_recomputed;
  }
  for (const std::int64_t request : computed_) {
    Lane& lane = lanes_.at(request);
    if (lane.step + 1 < num_steps_) {
      add_wait(lane, request, step.start_ns);
      lane.is_preempted = false;
    }
    TraceArgs args;
    args.add("step", num_steps_);
    for (const auto& [name, tokens] : {std::pair{"prefill_tokens", lane.prefill_tokens},
                                       {"decode_tokens", lane.decode_tokens},
                                       {"recomputed_tokens", lane.recomputed_tokens}})
      if (tokens > 0) args.add(name, tokens);
    file_.span({kRequests, request}, title({lane.prefill_tokens, lane.decode_tokens}),
               step.start_ns - origin_ns_, step.wall_ns, args);
    lane.step = num_steps_;
    lane.end_ns = step.start_ns + step.wall_ns;
    lane.prefill_tokens = lane.decode_tokens = lane.recomputed_tokens = 0;
  }
  for (const RequestUsage* request : step.preempted)
    if (const auto lane = lanes_.find(request->id); lane != lanes_.end()) lane->second.is_preempted = true;
}

void TraceWriter::end_request(const RequestUsage& usage) {
  const auto found = lanes_.find(usage.id);
  const Lane lane = found == lanes_.end() ? open_lane(usage, usage.finish_ns) : found->second;
  if (lane.step < num_steps_) add_wait(lane, usage.id, usage.finish_ns);
  file_.shut({kRequests, usage.id}, usage.finish_ns - origin_ns_,
             TraceArgs()
                 .add("finish_reason", std::string_view(name(usage.finish_reason)))
                 .add("prompt_tokens", usage.prompt_tokens)
                 .add("cached_tokens", usage.cached_tokens)
                 .add("generated_tokens", usage.generated_tokens)
                 .add("prefill", counts_args(usage.prefill))
                 .add("decode", counts_args(usage.decode))
                 .add("device_ms", (usage.device_ns[0] + usage.device_ns[1]) * 1e-6));
  lanes_.erase(usage.id);
  if (lanes_.empty()) file_.flush();  // perhaps nothing comes for a long time
}

void TraceWriter::add_rates(const Counts& counts, std::int64_t start_ns, std::int64_t wall_ns) {
  file_.counter(kEngine, "tokens", start_ns,
                TraceArgs().add("useful", counts.tokens).add("wasted", counts.wasted_tokens));
  if (wall_ns <= 0) return;
  const auto ns = static_cast<double>(wall_ns);
  file_.counter(kEngine, "GFLOP/s", start_ns,
                TraceArgs().add("useful", static_cast<double>(counts.useful_flops()) / ns));
  file_.counter(kEngine, "GB/s", start_ns,
                TraceArgs().add("compulsory", static_cast<double>(counts.min_bytes()) / ns));
}

void TraceWriter::add_waterfall(const StepRecord& step) {
  constexpr const char* kName = "waterfall, ns";
  const std::int64_t ns = step.gap_ns + step.wall_ns;
  const std::int64_t begin_ns = step.start_ns - step.gap_ns;
  if (const std::int64_t idle_ns = begin_ns - last_end_ns_; idle_ns > 0) {
    Waterfall idle;
    idle[Term::kIdle] = static_cast<double>(idle_ns) * 1e-9;
    file_.counter(kEngine, kName, last_end_ns_ - origin_ns_, waterfall_args(idle, idle_ns));
  }
  step_meter_.reset();
  StepRecord alone = step;  // as it was when it ran
  alone.wasted_since = {};
  step_meter_.add_step(alone);
  const auto terms = waterfall_of(step_meter_.totals(), step_meter_.peaks(), static_cast<double>(ns) * 1e-9);
  if (terms) return file_.counter(kEngine, kName, begin_ns - origin_ns_, waterfall_args(terms->whole, ns));
  const std::int64_t busy_ns = std::llround(step.counts->busy_ns[0] + step.counts->busy_ns[1]);
  file_.counter(kEngine, kName, begin_ns - origin_ns_,
                TraceArgs().add("idle", std::int64_t{0}).add("gap", ns - busy_ns).add("busy", busy_ns));
}

void TraceWriter::add_state(const StepRecord& step) {
  if (!step.stats) return;
  const EngineStats& stats = *step.stats;
  const std::int64_t at = step.start_ns + step.wall_ns - origin_ns_;
  file_.counter(kEngine, "KV blocks", at,
                TraceArgs().add("used", std::int64_t{std::llround(stats.kv_usage *
                                                                  static_cast<double>(stats.num_blocks))}));
  file_.counter(kEngine, "KV fragmentation", at, TraceArgs().add("share", stats.kv_fragmentation));
  file_.counter(kEngine, "sequences", at,
                TraceArgs().add("running", stats.num_running).add("waiting", stats.num_waiting));
}

void TraceWriter::add_stretch(const std::string& name, std::int64_t start_ns, std::int64_t end_ns) {
  file_.span(kStretches, name, start_ns - origin_ns_, end_ns - start_ns, {});
}

void TraceWriter::flush_sometimes(std::int64_t now_ns) {
  if (now_ns - flushed_ns_ < kFlushIntervalNs) return;
  file_.flush();
  flushed_ns_ = now_ns;
}

void TraceWriter::close() { file_.close(); }

}  // namespace redline
