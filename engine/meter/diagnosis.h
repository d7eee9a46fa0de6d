// Why a phase took its time, in one sentence with its number, and what would change it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/estimate.h"
#include "engine/meter/step_model.h"
#include "engine/meter/waterfall.h"

namespace redline {

/// A model as it ran, and what else it could be stored in.
struct DiagnosedModel {
  ModelConfig config;
  StoredWeights weights;
  DType kv_dtype = DType::kBF16;
  Estimate::ComputeOf compute_of;
  std::vector<DType> weight_types{DType::kQ8_0, DType::kQ4_0};
  std::vector<DType> kv_types{};
  std::int64_t packed_bytes = 0;  // of the weights

  Estimate estimate() const { return Estimate(config, weights, kv_dtype, compute_of); }
};

/// What bounds a phase. A part of memory-bound time is named by the larger kind of traffic.
enum class Cause : std::uint8_t {
  kGap,
  kCommunication,
  kWaste,
  kWeightReads,
  kKvReads,
  kClock,
  kKernels,
  kCompute
};
inline constexpr const char* kCauseNames[] = {"gap",      "communication", "waste",   "weight_reads",
                                              "kv_reads", "clock",         "kernels", "compute"};

/// Tokens per second with one thing changed, by those without. The run's efficiencies are kept; `at_most`:
/// one that was not measured counts as 1.
struct Counterfactual {
  std::string change;  // "batch 8", "q4_0 weights", "no gap"
  double speedup = 1;
  bool at_most = false;
  // For programs: what changes, and to which number or, where there is one, name.
  const char* field = "";
  std::int64_t number = 0;
  std::string name{};
};

struct Diagnosis {
  StepShape step;  // the phase's mean one
  Cause cause{};
  double share =
      0;  // gap, communication, waste, clock: of wall time; weight and KV reads: of the bandwidth's floor by
          // busy time (MBU); compute: of the peak while busy (MFU); kernels: roofline by busy time
  std::vector<Counterfactual> would_give;  // the largest first

  /// With the three changes that give most, if they give more than 5 %:
  /// "decode at batch 1 is bound by weight reads (91.0 % of the bandwidth floor); batch 8 would give 7.1x,
  /// ..."
  std::string sentence() const;
};

/// Each phase that `window` holds gets one, at the efficiencies of `totals`, which hold its phases and may
/// hold the other phase of another window.
std::vector<Diagnosis> diagnose(const PhaseTotalsArray& totals, const WindowWaterfall& window,
                                const DevicePeaks& device, const DiagnosedModel& model);

/// Every counterfactual of a phase's mean step, in no order, whatever it gives: batch times 8 (prefill: 8
/// times the tokens a step), each narrower type of weights and of the cache, half the context, no gap,
/// kernels at their roofline.
std::vector<Counterfactual> counterfactuals(const StepModel& steps, const StepShape& shape,
                                            const DiagnosedModel& model);

/// What else the figures depend on: sizes that the hardware's tiles do not divide (8 for 16-bit arithmetic,
/// 16 for 8-bit), a last-level cache that holds the weights, a low clock.
std::vector<std::string> notes(const DiagnosedModel& model, const DevicePeaks& device,
                               std::optional<double> clock = std::nullopt);

nlohmann::ordered_json to_json(const Diagnosis& diagnosis);
/// {phase, finding (a cause's name), value (its share), sentence, counterfactuals: [{change: {"batch": 8},
/// speedup, at_most}]}
nlohmann::ordered_json finding_json(const Diagnosis& diagnosis);

}  // namespace redline
