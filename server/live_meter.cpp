#include "server/live_meter.h"

#include <cmath>
#include <cstdio>
#include <optional>
#include <utility>

namespace redline::server {
namespace {

constexpr auto kWindow = std::chrono::seconds(10);
constexpr const char* kPhaseNames[kNumPhases] = {"prefill", "decode"};

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

// Prometheus' text format: HELP and TYPE once, then the samples.
class Page {
 public:
  void begin(const char* name, const char* type, const char* help) {
    name_ = name;
    text_ += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }
  void sample(const std::string& labels, double value) { add(labels, number(value)); }
  void sample(const std::string& labels, std::int64_t value) { add(labels, std::to_string(value)); }
  std::string text() && { return std::move(text_); }

 private:
  void add(const std::string& labels, const std::string& value) {
    text_ += name_ + (labels.empty() ? "" : "{" + labels + "}") + " " + value + "\n";
  }
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
  }
  std::string name_, text_;
};

std::string label(const char* key, const std::string& value) {
  return std::string(key) + "=\"" + value + "\"";
}

void add_work(Page& page, const UtilizationMeter& meter) {
  page.begin("redline_flops_total", "counter",
             "Floating-point operations of the model by phase, part and use.");
  for (int p = 0; p < kNumPhases; ++p)
    for (int part = 0; part < kNumParts; ++part) {
      const Counts& counts = meter.totals(static_cast<Phase>(p)).counts;
      const std::string labels = label("phase", kPhaseNames[p]) + "," + label("part", kPartNames[part]) + ",";
      const auto i = static_cast<std::size_t>(part);
      const bool other = static_cast<Part>(part) == Part::kOther;
      page.sample(labels + label("work", other ? "other" : "useful"), counts.flops[i]);
      if (!other) page.sample(labels + label("work", "wasted"), counts.wasted_flops[i]);
    }
  page.begin("redline_bytes_total", "counter", "Bytes that the model had to move by phase and part.");
  for (int p = 0; p < kNumPhases; ++p) {
    const Counts& counts = meter.totals(static_cast<Phase>(p)).counts;
    const std::pair<const char*, std::int64_t> parts[] = {
        {"weights", counts.weights},         {"kv_read", counts.kv_read},     {"kv_write", counts.kv_write},
        {"activations", counts.activations}, {"wasted", counts.wasted_bytes}, {"declared", counts.declared}};
    for (const auto& [part, bytes] : parts)
      page.sample(label("phase", kPhaseNames[p]) + "," + label("part", part), bytes);
  }
}

void add_compute_seconds(Page& page, const UtilizationMeter& meter) {
  page.begin("redline_compute_seconds_total", "counter",
             "Seconds that the useful FLOPs take at the peaks of their arithmetic; over a time, its MFU.");
  for (int p = 0; p < kNumPhases; ++p)
    for (int peak = 0; peak < 2; ++peak)
      if (const auto seconds = meter.compute_seconds(static_cast<Phase>(p), static_cast<PeakBasis>(peak)))
        page.sample(label("phase", kPhaseNames[p]) + "," + label("peak", kPeakBasisNames[peak]), *seconds);
}

void add_ratios(Page& page, const UtilizationMeter& window) {
  const struct {
    const char *name, *help;
    std::optional<double> Ratios::*ratio;
  } kRatios[] = {{"redline_mfu", "Model FLOPs utilisation of the last 10 s.", &Ratios::mfu},
                 {"redline_hfu", "Hardware FLOPs utilisation of the last 10 s.", &Ratios::hfu},
                 {"redline_mbu", "Model bandwidth utilisation of the last 10 s.", &Ratios::mbu},
                 {"redline_sol", "Share of the roofline's speed of light of the last 10 s.", &Ratios::sol}};
  for (const auto& each : kRatios) {
    page.begin(each.name, "gauge", each.help);
    for (int p = 0; p < kNumPhases; ++p)
      for (int time = 0; time < 2; ++time)
        for (int peak = 0; peak < 2; ++peak) {
          const auto phase = static_cast<Phase>(p);
          const auto value =
              window.ratios(phase, static_cast<TimeBasis>(time), static_cast<PeakBasis>(peak)).*each.ratio;
          const bool idle =
              window.totals(phase).busy_ns <= 0 && static_cast<TimeBasis>(time) == TimeBasis::kWall;
          page.sample(label("phase", kPhaseNames[p]) + "," + label("basis", kTimeBasisNames[time]) + "," +
                          label("peak", kPeakBasisNames[peak]),
                      value.value_or(idle ? 0 : std::nan("")));
        }
  }
  page.begin("redline_arithmetic_intensity", "gauge",
             "FLOPs per byte of compulsory traffic of the last 10 s.");
  for (int p = 0; p < kNumPhases; ++p)
    page.sample(label("phase", kPhaseNames[p]),
                window.roofline(static_cast<Phase>(p)).intensity.value_or(std::nan("")));
}

void add_peaks(Page& page, const DevicePeaks& peaks) {
  const Peaks by_source[] = {peaks.vendor(), peaks.attainable()};
  page.begin("redline_peak_flops_per_second", "gauge",
             "Peak by arithmetic, the vendor's or as probed; absent if unknown.");
  for (int source = 0; source < 2; ++source)
    for (int type = 0; type < kNumComputeTypes; ++type)
      if (const double peak = by_source[source].flops[static_cast<std::size_t>(type)]; peak > 0)
        page.sample(label("dtype", kComputeTypeNames[type]) + "," + label("source", kPeakBasisNames[source]),
                    peak);
  page.begin("redline_peak_bytes_per_second", "gauge", "Peak memory bandwidth, the vendor's or as probed.");
  for (int source = 0; source < 2; ++source)
    if (by_source[source].bandwidth > 0)
      page.sample(label("source", kPeakBasisNames[source]), by_source[source].bandwidth);
}

}  // namespace

LiveMeter::LiveMeter(DevicePeaks peaks, std::int64_t weight_bytes) : meter_(std::move(peaks), weight_bytes) {
  snapshots_.push_back({start_, meter_});
}

void LiveMeter::add_step(const StepRecord& step) {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  if (now - snapshots_.back().time >= std::chrono::seconds(1)) {
    snapshots_.push_back({now, meter_});
    while (snapshots_.size() > 1 && now - snapshots_[1].time >= kWindow) snapshots_.pop_front();
  }
  meter_.add_step(step);
  busy_s_ += static_cast<double>(step.wall_ns) * 1e-9;
  gap_s_ += static_cast<double>(step.gap_ns) * 1e-9;
}

void LiveMeter::add_request(FinishReason reason, const RequestUsage& usage) {
  const std::lock_guard lock(mutex_);
  ++num_requests_[static_cast<std::size_t>(reason)];
  num_prompt_tokens_ += usage.prompt_tokens;
  num_generated_tokens_ += usage.generated_tokens;
}

std::string LiveMeter::page(const EngineStats& stats) const {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const Snapshot* before = &snapshots_.front();
  for (const Snapshot& each : snapshots_)
    if (now - each.time >= kWindow) before = &each;
  UtilizationMeter window = meter_.since(before->meter);
  Page page;
  add_work(page, meter_);
  add_compute_seconds(page, meter_);
  add_ratios(page, window);
  add_peaks(page, meter_.peaks());
  page.begin("redline_time_seconds_total", "counter", "Where the engine's time went.");
  page.sample(label("state", "busy"), busy_s_);
  page.sample(label("state", "gap"), gap_s_);
  page.sample(label("state", "idle"), std::max(0.0, seconds(now - start_) - busy_s_ - gap_s_));
  const auto add = [&page](const char* name, const char* type, const char* help, auto value) {
    page.begin(name, type, help);
    page.sample("", value);
  };
  add("redline_prompt_tokens_total", "counter", "Prompt tokens of ended requests.", num_prompt_tokens_);
  add("redline_generated_tokens_total", "counter", "Generated tokens of ended requests.",
      num_generated_tokens_);
  add("redline_requests_running", "gauge", "Sequences that run.", stats.num_running);
  add("redline_requests_waiting", "gauge", "Sequences that wait.", stats.num_waiting);
  add("redline_kv_usage_ratio", "gauge", "Share of the cache's blocks in use.", stats.kv_usage);
  add("redline_preemptions_total", "counter", "Sequences that gave up their blocks.", stats.num_preemptions);
  add("redline_prefix_cache_queries_total", "counter", "Prompt tokens looked up.",
      stats.prefix_queried_tokens);
  add("redline_prefix_cache_hits_total", "counter", "Of them, found.", stats.prefix_hit_tokens);
  page.begin("redline_requests_total", "counter", "Ended requests by reason.");
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kAborted, FinishReason::kError})
    page.sample(label("finish_reason", name(reason)), num_requests_[static_cast<std::size_t>(reason)]);
  return std::move(page).text();
}

}  // namespace redline::server
