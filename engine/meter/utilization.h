// What a run cost and how much of the device it used: step counts added up by phase, and the ratios,
// the report and the `utilization` object made from them (docs/accounting.md).
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/device_peaks.h"
#include "kernels/ledger.h"

namespace redline {

struct StepRecord;  // engine/engine.h

/// Nanoseconds of one step: `wall_ns` from its start to its end, `gap_ns` since the end of the step before
/// while work was queued.
struct StepTiming {
  std::int64_t wall_ns = 0;
  std::int64_t gap_ns = 0;
};

enum class TimeBasis : std::uint8_t { kBusy, kWall };
enum class PeakBasis : std::uint8_t { kVendor, kAttainable };
inline constexpr const char* kTimeBasisNames[2] = {"busy", "wall"};
inline constexpr const char* kPeakBasisNames[2] = {"vendor", "attainable"};

/// A phase's steps together. In a step that mixes phases the counts are exact and the times are split by
/// roofline share. `steps` are those that did useful work of this phase.
struct PhaseTotals {
  std::int64_t steps = 0;
  Counts counts;
  // Of the wasted work in `counts`, what proved in vain later, and rows of no sequence; the rest was computed
  // again.
  Counts aborted, padding;
  double busy_ns = 0;
  double wall_ns = 0;  // gaps included
  // Roofline time of the executed operations; not a number once a peak was unknown.
  double ideal_ns_vendor = 0;
  double ideal_ns_attainable = 0;
  std::array<KindTimes, kNumOpKinds> kinds{};

  double ideal_ns(PeakBasis basis) const;
  /// What came between two readings, these the later ones.
  PhaseTotals& operator-=(const PhaseTotals& earlier);
};

using PhaseTotalsArray = std::array<PhaseTotals, kNumPhases>;

/// Shares of a peak, 1 being all of it; nothing where a peak is unknown or no time passed.
struct Ratios {
  std::optional<double> mfu, hfu, mbu, sol;
};

/// What a phase is bound by at the roofline, and the figures that say so.
struct Roofline {
  std::optional<PeakBasis> basis;          // the vendor's where known for all that ran, else the attainable
  std::optional<double> peak_flops_per_s;  // effective over compute types: useful / sum of useful_q / peak_q
  std::optional<double> balance;           // FLOPs per byte at which compute and memory take the same time
  std::optional<double> intensity;         // FLOPs per byte of compulsory traffic
  const char* bound_by = nullptr;          // "compute" or "memory"
};

/// Times and counts of a whole run that steps do not know.
struct RunSummary {
  double wall_s = 0;
  std::optional<double> ttft_s = std::nullopt;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of them, found in the prefix cache
  std::int64_t generated_tokens = 0;
};

/// Why work was in vain. Reserved, until there are drafts: "rejected_drafts".
enum class WasteCause : std::uint8_t {
  kPadding,        // rows that belong to no sequence
  kRecomputation,  // tokens whose cache was taken away by a preemption
  kAborted,        // requests that ended before a token of theirs was delivered
};
inline constexpr int kNumWasteCauses = 3;
inline constexpr const char* kWasteCauseNames[kNumWasteCauses] = {"padding", "recomputation", "aborted"};
/// Of a phase's wasted work, what was in vain for this cause; the causes sum to it.
Counts wasted_by(const PhaseTotals& totals, WasteCause cause);

/// Give Ops::ledger() the same peaks (Ledger::set_peaks) before the first step: it works out SOL and the
/// split of mixed steps. Not thread-safe.
class UtilizationMeter {
 public:
  /// `weight_bytes` as packed in memory: they say whether the last-level cache may hold them.
  UtilizationMeter(DevicePeaks peaks, std::int64_t weight_bytes, const PhaseTotalsArray& totals = {});

  void add_step(const StepCounts& step, const StepTiming& timing);
  /// The same, and what the record says of padding and of earlier steps: as an engine's StepObserver.
  void add_step(const StepRecord& record);
  /// Counts already added turn out to be in vain (a step run ahead of a stop, an aborted request).
  /// `whole_steps` steps did nothing else.
  void reclassify_as_wasted(const Counts& counts, Phase phase, std::int64_t whole_steps = 0);
  void reset();

  const DevicePeaks& peaks() const { return peaks_; }
  const PhaseTotalsArray& totals() const { return totals_; }
  const PhaseTotals& totals(Phase phase) const { return totals_[static_cast<std::size_t>(phase)]; }
  Ratios ratios(Phase phase, TimeBasis time, PeakBasis peak) const;
  Roofline roofline(Phase phase) const;
  /// Seconds that the phase's useful FLOPs take at the peaks of their arithmetic: over a time it is the MFU.
  /// Nothing where a peak is unknown.
  std::optional<double> compute_seconds(Phase phase, PeakBasis peak) const;
  /// "cache_resident", "stale_peak": a bandwidth figure above its peak, since the last-level cache holds the
  /// weights, or since the peak no longer holds; "above_compute_peak": more FLOPs than the peak allows.
  std::vector<std::string> flags() const;

  /// The `utilization` object, and one phase of it: docs/json.md. Unknown is null.
  nlohmann::ordered_json to_json(const RunSummary& run) const;
  nlohmann::ordered_json phase_json(Phase phase) const;
  /// Some lines for people, each ending in a newline.
  std::string report(const RunSummary& run) const;
  /// One line for a terminal while tokens come, without a newline.
  std::string live_line(const RunSummary& run) const;

 private:
  DevicePeaks peaks_;
  Peaks by_basis_[2];
  std::int64_t weight_bytes_ = 0;
  PhaseTotalsArray totals_;
};

}  // namespace redline
