#include <algorithm>

#include "engine/meter/format.h"
#include "engine/meter/utilization.h"

namespace redline {
namespace {

constexpr double kNsPerS = 1e9;

std::string per_s(double count, double ns, const std::string& unit) {
  return ns > 0 ? format_si(count * kNsPerS / ns, unit) : kUnknownText;
}

std::vector<std::string> phase_row(const UtilizationMeter& meter, Phase phase) {
  const PhaseTotals& t = meter.totals(phase);
  const Roofline line = meter.roofline(phase);
  const Ratios r = line.basis ? meter.ratios(phase, TimeBasis::kBusy, *line.basis) : Ratios{};
  return {kPhaseNames[static_cast<int>(phase)],
          format_count(t.counts.tokens),
          t.wall_ns > 0 ? format_number(static_cast<double>(t.counts.tokens) * kNsPerS / t.wall_ns)
                        : kUnknownText,
          per_s(static_cast<double>(t.counts.useful_flops()), t.busy_ns, ""),
          per_s(static_cast<double>(t.counts.min_bytes()), t.busy_ns, ""),
          format_if_known(r.mfu, format_percent),
          format_if_known(r.mbu, format_percent),
          format_if_known(line.intensity, format_number),
          format_if_known(line.balance, format_number),
          line.bound_by ? line.bound_by : kUnknownText};
}

bool is_integer(std::size_t type) {
  return type == static_cast<std::size_t>(ComputeType::kInt8) ||
         type == static_cast<std::size_t>(ComputeType::kInt16);
}

// "attainable peaks, measured 3 min ago:\nA CPU, 2 threads: int8 563 GOP/s, memory 24.6 GB/s"
std::string peaks_text(const UtilizationMeter& meter, PeakBasis basis) {
  const DevicePeaks& device = meter.peaks();
  const bool vendor = basis == PeakBasis::kVendor;
  const auto rate = [&](const PeakRate& r) { return vendor ? r.vendor : r.attainable; };
  std::string text = vendor ? "vendor's peaks" : "attainable peaks";
  if (!vendor && device.bandwidth.age_s)
    text += *device.bandwidth.age_s < 1 ? ", measured just now"
                                        : ", measured " + format_duration(*device.bandwidth.age_s) + " ago";
  text += ":\n" + device.device_name;
  if (device.threads > 0)
    text += ", " + std::to_string(device.threads) + (device.threads == 1 ? " thread" : " threads");
  text += ": ";
  for (std::size_t i = 0; i < kNumComputeTypes; ++i) {
    const bool used = std::any_of(kAllPhases.begin(), kAllPhases.end(), [&](Phase phase) {
      return meter.totals(phase).counts.flops_by_type[i] > 0;
    });
    if (used)
      text += std::string(kComputeTypeNames[i]) + " " +
              format_si(rate(device.compute[i]), is_integer(i) ? "OP/s" : "FLOP/s") + ", ";
  }
  return text + "memory " + format_si(rate(device.bandwidth), "B/s");
}

const char* explanation(const std::string& flag) {
  if (flag == "cache_resident")
    return "more bandwidth than memory gives: the last-level cache holds the weights";
  if (flag == "stale_peak") return "more bandwidth than probe measured: probe again";
  return "more FLOP/s than the peak: measure it again, or report a bug";
}

}  // namespace

std::string UtilizationMeter::report(const RunSummary& run) const {
  std::string text = format_count(run.prompt_tokens) + " prompt tokens";
  if (run.cached_tokens > 0) text += " (" + format_count(run.cached_tokens) + " cached)";
  text += ", " + format_count(run.generated_tokens) + " generated in " + format_duration(run.wall_s);
  if (run.ttft_s) text += "; first token after " + format_duration(*run.ttft_s);
  text += "\n";

  std::vector<std::vector<std::string>> rows = {
      {"", "tokens", "tok/s", "FLOP/s", "B/s", "MFU", "MBU", "FLOP/B", "balance", "bound by"}};
  std::optional<PeakBasis> basis;
  double busy_ns = 0, wall_ns = 0;
  for (const Phase phase : kAllPhases) {
    const PhaseTotals& t = totals(phase);
    if (t.steps == 0) continue;
    rows.push_back(phase_row(*this, phase));
    if (const Roofline line = roofline(phase); line.basis) basis = line.basis;
    busy_ns += t.busy_ns;
    wall_ns += t.wall_ns;
  }
  if (rows.size() == 1) return text;
  text += format_table(rows);
  text += "Busy " + format_percent(busy_ns / wall_ns) + " of the time. MFU and MBU";
  text += basis ? ": while busy, of the " + peaks_text(*this, *basis) + ".\n"
                : " unknown: no peaks of " + peaks_.device_name + " are known.\n";
  for (const std::string& flag : flags()) text += flag + ": " + explanation(flag) + ".\n";
  return text;
}

std::string UtilizationMeter::live_line(const RunSummary& run) const {
  const Phase phase = totals(Phase::kDecode).steps > 0 ? Phase::kDecode : Phase::kPrefill;
  const PhaseTotals& t = totals(phase);
  std::string text = format_count(run.generated_tokens) + " tokens";
  if (t.steps == 0) return text;
  const Roofline line = roofline(phase);
  const Ratios r = line.basis ? ratios(phase, TimeBasis::kBusy, *line.basis) : Ratios{};
  text += " · " + format_number(static_cast<double>(t.counts.tokens) * kNsPerS / t.wall_ns) + " tok/s";
  text += " · " + per_s(static_cast<double>(t.counts.useful_flops()), t.busy_ns, "FLOP/s");
  text += " · " + per_s(static_cast<double>(t.counts.min_bytes()), t.busy_ns, "B/s");
  if (r.mfu) text += " · MFU " + format_percent(*r.mfu);
  if (r.mbu) text += " · MBU " + format_percent(*r.mbu);
  return text;
}

}  // namespace redline
