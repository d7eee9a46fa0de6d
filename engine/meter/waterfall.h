// Where the wall time of a window went, in terms that sum to it (docs/accounting.md, "The waterfall").
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/utilization.h"

namespace redline {

/// In the order in which they are drawn. The first six and kernel inefficiency are lost, the last is MFU.
enum class Term : std::uint8_t {
  kIdle,                  // no work was queued
  kGap,                   // work was queued and the device did not execute
  kExposedCommunication,  // between devices, with nothing computed meanwhile
  kWaste,                 // the device executed what was in vain: padding, recomputed, rejected, aborted
  kMemoryBoundPenalty,    // roofline time above compute time
  kClockLoss,             // compute time at the clock that the device ran at, above the roofline
  kKernelInefficiency,    // time above all that: what remains
  kIdealCompute,          // useful FLOPs at their peaks
};
inline constexpr int kNumTerms = 8;
/// Their names in JSON, metrics and, with spaces, in text.
inline constexpr const char* kTermNames[kNumTerms] = {"idle",
                                                      "gap",
                                                      "exposed_communication",
                                                      "waste",
                                                      "memory_bound_penalty",
                                                      "clock_loss",
                                                      "kernel_inefficiency",
                                                      "ideal_compute"};

/// Seconds by term. Kernel inefficiency is below 0 where work was faster than its roofline: caches served
/// what is charged to memory, or a peak is out of date (UtilizationMeter::flags says which).
struct Waterfall {
  std::array<double, kNumTerms> seconds{};
  std::array<double, kNumWasteCauses> waste_seconds{};  // sum to the term: why
  bool clock_is_exposed = true;  // else clock loss is part of kernel inefficiency, and its own term 0

  double& operator[](Term term) { return seconds[static_cast<std::size_t>(term)]; }
  double operator[](Term term) const { return seconds[static_cast<std::size_t>(term)]; }
  /// The sum of the terms.
  double wall_s() const;
  /// Ideal compute by wall time; 0 of no time.
  double mfu() const;
  /// The term that takes most, ideal compute aside.
  Term largest_loss() const;
  Waterfall& operator+=(const Waterfall& other);
};

/// What busy time was spent on, at the device's peaks.
struct BusyWork {
  double busy_s = 0;
  double communication_s = 0;                    // of it, exposed
  double compute_s = 0;                          // executed FLOPs at their peaks
  double roofline_s = 0;                         // sum over operations of the longer of compute and memory
  double wasted = 0;                             // share of it all that was in vain, 0 to 1
  std::array<double, kNumWasteCauses> causes{};  // shares of that
  std::optional<double> clock{};  // the device's mean clock by its nominal one; nothing: not exposed
};
/// The busy terms, which sum to `busy_s`. Waste takes its share of everything.
Waterfall busy_waterfall(const BusyWork& work);

struct KindWaterfall {
  OpKind kind{};
  Waterfall terms;
};

/// A window's waterfall: the whole, each phase (idle belongs to none; a phase's gap is before and within its
/// steps), and a phase's operations by kind, the longest first: none where the backend does not time them.
struct WindowWaterfall {
  PeakBasis basis = PeakBasis::kVendor;
  Waterfall whole;
  std::array<Waterfall, kNumPhases> phases;
  std::array<std::vector<KindWaterfall>, kNumPhases> kinds;
};

/// Of `wall_s` seconds in which `totals` ran and `idle_s` were without work; whatever of them is neither idle
/// nor a phase's is gap. A phase's ideal compute by its wall time is its MFU over wall time, and its terms
/// but idle and gap sum to its busy time. The vendor's peaks where known for all that ran, else the
/// attainable ones; nothing where those are not known either.
std::optional<WindowWaterfall> waterfall_of(const PhaseTotalsArray& totals, const DevicePeaks& peaks,
                                            double wall_s, double idle_s = 0,
                                            std::optional<double> clock = std::nullopt);

/// A term's name in text: "memory bound penalty".
std::string term_words(Term term);
/// Each term's share of a picture's width. Where work beat its roofline, that is taken off the memory-bound
/// penalty.
std::array<double, kNumTerms> drawn_shares(const Waterfall& terms);
/// docs/json.md, "explanation".
nlohmann::ordered_json to_json(const WindowWaterfall& waterfall);
/// The terms in whole nanoseconds, which sum to `wall` exactly: what is rounded is kernel inefficiency's. A
/// term that is not exposed is 0, and named.
nlohmann::ordered_json nanoseconds_json(const Waterfall& terms, PeakBasis basis);
/// The terms of a phase's busy time alone.
Waterfall busy_terms(Waterfall phase);
/// A bar, a table of terms, and one of kinds, in lines of at most 100 characters.
std::string report(const WindowWaterfall& waterfall);

}  // namespace redline
