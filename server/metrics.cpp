#include "server/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

namespace redline::server {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr PeakBasis kBases[] = {PeakBasis::kVendor, PeakBasis::kAttainable};

constexpr MetricsPage::Alias kVllmNames[] = {
    {"redline_requests_running", "vllm:num_requests_running"},
    {"redline_requests_waiting", "vllm:num_requests_waiting"},
    {"redline_kv_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"redline_prompt_tokens_total", "vllm:prompt_tokens_total"},
    {"redline_generated_tokens_total", "vllm:generation_tokens_total"},
    {"redline_preemptions_total", "vllm:num_preemptions_total"},
    {"redline_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"},
    {"redline_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
    {"redline_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"redline_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"redline_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    {"redline_request_queue_time_seconds", "vllm:request_queue_time_seconds"},
    {"redline_request_prefill_time_seconds", "vllm:request_prefill_time_seconds"},
    {"redline_request_decode_time_seconds", "vllm:request_decode_time_seconds"},
    {"redline_iteration_tokens", "vllm:iteration_tokens_total"},
};
constexpr FinishReason kReasons[] = {FinishReason::kStop, FinishReason::kLength, FinishReason::kAborted,
                                     FinishReason::kError};

const char* name_of(Phase phase) { return kPhaseNames[static_cast<std::size_t>(phase)]; }
const char* name_of(PeakBasis peak) { return kPeakBasisNames[static_cast<std::size_t>(peak)]; }

bool is_known(const Peaks& peaks) {
  return peaks.bandwidth > 0 || std::ranges::any_of(peaks.flops, [](double flops) { return flops > 0; });
}

void add_work(MetricsPage& page, const UtilizationMeter& meter) {
  page.begin("redline_flops_total", "counter",
             "Floating-point operations by phase, part of the model, and what became of them.");
  for (const Phase phase : kAllPhases)
    for (std::size_t part = 0; part < kNumParts; ++part) {
      const Counts& counts = meter.totals(phase).counts;
      const bool other = static_cast<Part>(part) == Part::kOther;
      const auto add = [&](const char* work, std::int64_t flops) {
        page.sample({{"phase", name_of(phase)}, {"part", kPartNames[part]}, {"work", work}}, flops);
      };
      add(other ? "other" : "useful", counts.flops[part] + (other ? counts.wasted_flops[part] : 0));
      if (!other) add("wasted", counts.wasted_flops[part]);
    }
  page.begin("redline_bytes_total", "counter", "Bytes of memory traffic by phase and part.");
  for (const Phase phase : kAllPhases) {
    const Counts& counts = meter.totals(phase).counts;
    const std::pair<const char*, std::int64_t> parts[] = {
        {"weights", counts.weights},         {"kv_read", counts.kv_read},     {"kv_write", counts.kv_write},
        {"activations", counts.activations}, {"wasted", counts.wasted_bytes}, {"declared", counts.declared}};
    for (const auto& [part, bytes] : parts) page.sample({{"phase", name_of(phase)}, {"part", part}}, bytes);
  }
  page.begin("redline_tokens_total", "counter", "Token rows that were computed, by phase and use.");
  for (const Phase phase : kAllPhases) {
    const Counts& counts = meter.totals(phase).counts;
    page.sample({{"phase", name_of(phase)}, {"work", "useful"}}, counts.tokens);
    page.sample({{"phase", name_of(phase)}, {"work", "wasted"}}, counts.wasted_tokens);
  }
  page.begin("redline_wasted_flops_total", "counter", "FLOPs in vain, by phase and cause.");
  for (const Phase phase : kAllPhases)
    for (std::size_t cause = 0; cause < kNumWasteCauses; ++cause)
      page.sample({{"phase", name_of(phase)}, {"cause", kWasteCauseNames[cause]}},
                  wasted_by(meter.totals(phase), static_cast<WasteCause>(cause)).executed_flops());
  page.begin("redline_compute_seconds_total", "counter",
             "Seconds that the useful FLOPs take at the peaks of their arithmetic: over a time, its MFU.");
  for (const Phase phase : kAllPhases)
    for (const PeakBasis peak : kBases)
      if (const auto seconds = meter.compute_seconds(phase, peak))
        page.sample({{"phase", name_of(phase)}, {"peak", name_of(peak)}}, *seconds);
}

void add_ratios(MetricsPage& page, const UtilizationMeter& window, double window_s) {
  const struct {
    const char *name, *help;
    std::optional<double> Ratios::*ratio;
  } kRatios[] = {{"redline_mfu", "Model FLOPs utilisation over the last 10 s.", &Ratios::mfu},
                 {"redline_hfu", "Hardware FLOPs utilisation over the last 10 s.", &Ratios::hfu},
                 {"redline_mbu", "Model bandwidth utilisation over the last 10 s.", &Ratios::mbu},
                 {"redline_sol", "Share of the roofline's speed of light over the last 10 s.", &Ratios::sol}};
  const Peaks peaks[] = {window.peaks().vendor(), window.peaks().attainable()};
  for (const auto& each : kRatios) {
    page.begin(each.name, "gauge", each.help);
    for (const Phase phase : kAllPhases)
      for (const PeakBasis peak : kBases) {
        if (!is_known(peaks[static_cast<std::size_t>(peak)])) continue;
        const double busy_ns = window.totals(phase).busy_ns;
        const auto ratio = window.ratios(phase, TimeBasis::kBusy, peak).*each.ratio;
        // Work that proved in vain since may outweigh the window's own.
        const double busy = ratio ? std::max(0.0, *ratio) : kUnknown;
        const double wall = busy_ns > 0 ? busy * busy_ns * 1e-9 / window_s : 0;
        page.sample({{"phase", name_of(phase)}, {"basis", "busy"}, {"peak", name_of(peak)}}, busy);
        page.sample({{"phase", name_of(phase)}, {"basis", "wall"}, {"peak", name_of(peak)}}, wall);
      }
  }
  page.begin("redline_arithmetic_intensity", "gauge",
             "FLOPs per byte of compulsory traffic over the last 10 s.");
  for (const Phase phase : kAllPhases)
    page.sample({{"phase", name_of(phase)}}, window.roofline(phase).intensity.value_or(kUnknown));
}

void add_peaks(MetricsPage& page, const DevicePeaks& device) {
  const Peaks peaks[] = {device.vendor(), device.attainable()};
  page.begin("redline_peak_flops_per_second", "gauge",
             "Peak by arithmetic, the vendor's or as probed; absent if unknown.");
  for (const PeakBasis source : kBases)
    for (std::size_t type = 0; type < kNumComputeTypes; ++type)
      if (const double peak = peaks[static_cast<std::size_t>(source)].flops[type]; peak > 0)
        page.sample({{"dtype", kComputeTypeNames[type]}, {"source", name_of(source)}}, peak);
  page.begin("redline_peak_bytes_per_second", "gauge",
             "Peak memory bandwidth, the vendor's or as probed; absent if unknown.");
  for (const PeakBasis source : kBases)
    if (const double peak = peaks[static_cast<std::size_t>(source)].bandwidth; peak > 0)
      page.sample({{"source", name_of(source)}}, peak);
}

void add_time(MetricsPage& page, const LiveReading& reading) {
  page.begin("redline_time_seconds_total", "counter",
             "All time: without work (idle), the device executing (busy), work queued and it did not (gap).");
  page.sample({{"state", "idle"}}, reading.idle_s);
  page.sample({{"state", "gap"}}, reading.gap_s);
  page.sample({{"state", "busy"}}, reading.busy_s);
  const double working_s = reading.gap_s + reading.busy_s;
  page.single("redline_meter_overhead_ratio", "gauge", "Share of the working time that metering takes.",
              working_s > 0 ? reading.meter_s / working_s : kUnknown);
}

// An unknown one has its help and no sample.
void add_health(MetricsPage& page, const DeviceHealth& health) {
  const auto add = [&page](const char* name, const char* type, const char* help,
                           const std::optional<double>& value) {
    page.begin(name, type, help);
    if (value) page.sample({}, *value);
  };
  add("redline_device_energy_joules_total", "counter", "Energy that the device drew; its rate is watts.",
      health.energy_joules);
  add("redline_device_power_limit_watts", "gauge", "Power that the device keeps to.",
      health.power_limit_watts);
  add("redline_device_throttled_seconds_total", "counter", "Time that heat held the device's clock down.",
      health.throttled_seconds);
}

void add_engine(MetricsPage& page, const EngineStats& stats) {
  page.begin("redline_energy_joules_total", "counter",
             "Energy that the device drew, by what it did meanwhile; absent where no sensor tells.");
  if (stats.energy) {
    page.sample({{"state", "idle"}}, stats.energy->idle);
    page.sample({{"state", "gap"}}, stats.energy->gap);
    page.sample({{"state", "busy"}}, stats.energy->busy);
  }
  page.single("redline_requests_running", "gauge", "Sequences that run.", stats.num_running);
  page.single("redline_requests_waiting", "gauge", "Sequences that wait.", stats.num_waiting);
  page.single("redline_kv_usage_ratio", "gauge", "Share of the cache's blocks in use.", stats.kv_usage);
  page.single("redline_kv_fragmentation_ratio", "gauge",
              "Share of the slots held by running sequences that hold no token.", stats.kv_fragmentation);
  page.single("redline_kv_blocks", "gauge", "Blocks of the cache.", stats.num_blocks);
  page.single("redline_steps_total", "counter", "Steps of the engine.", stats.num_steps);
  page.single("redline_late_steps_total", "counter", "Steps that took longer than --target-tpot.",
              stats.num_late_steps);
  page.single("redline_preemptions_total", "counter", "Sequences that lost their blocks to others.",
              stats.num_preemptions);
  page.single("redline_prefix_cache_queries_total", "counter", "Prompt tokens looked up.",
              stats.prefix_queried_tokens);
  page.single("redline_prefix_cache_hits_total", "counter", "Prompt tokens found.", stats.prefix_hit_tokens);
}

// Of every tenant that has a label, or of one of them; "other" is the sum of the rest.
void add_tenants(MetricsPage& page, const EngineStats& stats, const AnswerTotals& answers,
                 const std::optional<std::string>& only) {
  const struct {
    const char *name, *help;
    std::int64_t TenantUse::*use;
  } kUses[] = {
      {"redline_tenant_requests_running", "Sequences that run, by tenant.", &TenantUse::num_running},
      {"redline_tenant_requests_waiting", "Sequences that wait, by tenant.", &TenantUse::num_waiting},
      {"redline_tenant_kv_blocks", "Blocks of the cache that running sequences hold, by tenant.",
       &TenantUse::num_blocks}};
  for (const auto& each : kUses) {
    std::map<std::string, std::int64_t> sums;
    for (const auto& [tenant, totals] : answers.tenants) sums[tenant] = 0;
    for (const TenantUse& tenant : stats.tenants)
      sums[sums.contains(tenant.name) ? tenant.name : AnswerTotals::kOther] += tenant.*each.use;
    page.begin(each.name, "gauge", each.help);
    for (const auto& [tenant, sum] : sums)
      if (!only || tenant == *only) page.sample({{"tenant", tenant}}, sum);
  }
}

void add_answers(MetricsPage& page, const AnswerTotals& answers, const std::optional<std::string>& only) {
  page.single("redline_prompt_tokens_total", "counter", "Tokens of prompts that have been computed.",
              answers.num_prompt_tokens);
  page.single("redline_generated_tokens_total", "counter", "Tokens of answers.",
              answers.num_generated_tokens);
  page.begin("redline_requests_total", "counter", "Answers that ended, by reason.");
  for (const FinishReason reason : kReasons)
    page.sample({{"finish_reason", name(reason)}}, answers.num_ended[static_cast<std::size_t>(reason)]);
  page.single("redline_stalled_readers_total", "counter",
              "Clients cut off because they took nothing for too long.", answers.num_stalled_readers);
  const struct {
    const char *name, *help;
    std::int64_t TenantTotals::*total;
  } kTenantTotals[] = {
      {"redline_tenant_requests_total", "Answers of ended calls, by tenant.", &TenantTotals::num_requests},
      {"redline_tenant_prompt_tokens_total", "Prompt tokens of ended calls, by tenant.",
       &TenantTotals::num_prompt_tokens},
      {"redline_tenant_generated_tokens_total", "Generated tokens of ended calls, by tenant.",
       &TenantTotals::num_generated_tokens},
      {"redline_tenant_flops_total", "Floating-point operations executed for ended calls, by tenant.",
       &TenantTotals::flops},
      {"redline_tenant_bytes_total", "Compulsory memory traffic executed for ended calls, by tenant.",
       &TenantTotals::bytes}};
  for (const auto& each : kTenantTotals) {
    page.begin(each.name, "counter", each.help);
    for (const auto& [tenant, totals] : answers.tenants)
      if (!only || tenant == *only) page.sample({{"tenant", tenant}}, totals.*each.total);
  }
  page.histogram("redline_time_to_first_token_seconds", "From a call's arrival to an answer's first token.",
                 answers.time_to_first_token);
  page.histogram("redline_inter_token_latency_seconds", "From an answer's token to its next one.",
                 answers.inter_token_latency);
  page.histogram("redline_e2e_request_latency_seconds", "From a call's arrival to an answer's end.",
                 answers.e2e_latency);
  page.histogram("redline_request_queue_time_seconds", "From a request's submission to its first step.",
                 answers.queue_time);
  page.histogram("redline_request_prefill_time_seconds", "From the first step to an answer's first token.",
                 answers.prefill_time);
  page.histogram("redline_request_decode_time_seconds", "From an answer's first token to its last.",
                 answers.decode_time);
}

// Without samples where nobody collects any.
void add_spans(MetricsPage& page, const std::optional<OtlpExporter::Totals>& spans) {
  page.begin("redline_otlp_spans_total", "counter", "Spans for OpenTelemetry, by what became of them.");
  if (!spans) return;
  page.sample({{"outcome", "exported"}}, spans->exported);
  page.sample({{"outcome", "dropped"}}, spans->dropped);
  page.sample({{"outcome", "rejected"}}, spans->rejected);
}

void add_info(MetricsPage& page, const std::string& version, const std::string& model_name,
              const std::string& device_name, double loaded) {
  page.begin("redline_info", "gauge", "What is served, by what, on what.");
  page.sample({{"version", version}, {"model", model_name}, {"device", device_name}}, std::int64_t{1});
  page.single("redline_load_progress_ratio", "gauge", "Share of the model's bytes that are loaded.", loaded);
}

// vLLM's label of a reason has another name, and so is no alias.
void add_vllm_successes(MetricsPage& page, const std::string& model_name, const AnswerTotals& answers) {
  page.begin("vllm:request_success_total", "counter", "Answers that ended, by reason.");
  for (const FinishReason reason : kReasons)
    page.sample({{"model_name", model_name}, {"engine", "0"}, {"finished_reason", name(reason)}},
                answers.num_ended[static_cast<std::size_t>(reason)]);
}

}  // namespace

std::string metrics_text(const MetricsOptions& options, const LiveMeter& meter, const LiveReading& reading,
                         const AnswerTotals& answers, const EngineStats& stats, const DeviceHealth& health,
                         const std::optional<OtlpExporter::Totals>& spans,
                         const std::optional<std::string>& tenant) {
  std::span<const MetricsPage::Alias> aliases;
  if (options.vllm_alias) aliases = kVllmNames;
  MetricsPage page(aliases, label_text("model_name", options.model_name) + "," + label_text("engine", "0"));
  add_info(page, options.version, options.model_name, options.device_name, 1);
  page.single("redline_model_parameters", "gauge", "Parameters of the model.", options.num_parameters);
  page.single("redline_model_weight_bytes", "gauge", "Bytes of its weights, as packed.",
              options.weight_bytes);
  page.single("redline_requests_limit", "gauge", "Sequences that may run at a time.", options.max_sequences);
  add_work(page, meter.meter_of(reading.totals));
  add_ratios(page, meter.meter_of(reading.window), reading.window_s);
  add_peaks(page, meter.peaks());
  add_time(page, reading);
  add_health(page, health);
  page.histogram("redline_iteration_tokens", "Tokens that a step computes.", reading.iteration_tokens);
  add_engine(page, stats);
  add_tenants(page, stats, answers, tenant);
  add_answers(page, answers, tenant);
  add_spans(page, spans);
  if (options.vllm_alias) add_vllm_successes(page, options.model_name, answers);
  return std::move(page).text();
}

std::string loading_metrics_text(const std::string& version, const std::string& model_name,
                                 std::int64_t loaded_bytes, std::int64_t total_bytes) {
  MetricsPage page({}, "");
  add_info(page, version, model_name, "",
           total_bytes > 0 ? static_cast<double>(loaded_bytes) / static_cast<double>(total_bytes) : 0);
  return std::move(page).text();
}

HttpResponse metrics_response(std::string text) {
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(text), .headers = {}};
}

}  // namespace redline::server
