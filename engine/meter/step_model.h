// How long a step would take: the roofline with the efficiencies that a run measured.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "engine/meter/estimate.h"
#include "engine/meter/utilization.h"

namespace redline {

/// A step of one phase: `batch` sequences compute `num_new` tokens each after `depth` cached ones.
struct StepShape {
  Phase phase = Phase::kDecode;
  std::int64_t batch = 1, num_new = 1, depth = 0;

  std::int64_t rows() const { return batch * num_new; }
};

/// What operations take at the peaks, if compute and memory overlap.
struct Floor {
  double compute_s = 0, memory_s = 0;
};

/// Shares of the peaks that operations reach where compute, or memory, bounds them; nothing where no phase of
/// the run was so bound.
struct Efficiency {
  std::optional<double> compute, memory;
  double least_compute = 0,
         least_memory = 0;  // that both reached at least: they took no longer than the whole
};

/// What a step does by phase, either of which may do nothing, and for how many tokens.
struct StepWork {
  std::array<Work, kNumPhases> work{};
  std::array<std::int64_t, kNumPhases> num_rows{};

  void add(Phase phase, const Work& more, std::int64_t rows) {
    work[static_cast<std::size_t>(phase)] += more;
    num_rows[static_cast<std::size_t>(phase)] += rows;
  }
};

struct PredictedStep {
  double busy_s = 0, gap_s = 0;
  bool at_least = false;  // an efficiency that was not measured counted as 1, and may bind: it takes no less

  double wall_s() const { return busy_s + gap_s; }
};

/// The time of a step is a sum over products with weights and attention over the cache, each
/// max(compute / its efficiency, memory / its efficiency), and all other operations, so much a step and a
/// row. Where the backend does not time operations one by one, all is one product.
class StepModel {
 public:
  /// As `totals` ran `estimate`'s model: their own shapes are predicted exactly where steps are alike.
  StepModel(const PhaseTotalsArray& totals, const Estimate& estimate, const Peaks& peaks);
  /// On paper: compute and memory at these shares of the peaks, (0, 1], and nothing else takes time.
  StepModel(double compute_share, double memory_share, const Peaks& peaks);

  /// Of a step as `estimate` counts it, at the same efficiencies. Nothing where its phase did not run, or a
  /// peak is unknown.
  std::optional<PredictedStep> predict(const StepShape& shape, const Estimate& estimate) const;
  /// Of a step that may hold both phases, over a cache that `attention_type` attends to. Weights are read
  /// once
  /// (`work` of both phases says all of them). Products with both phases' tokens compute as well as
  /// the better one's, and read as decode's.
  std::optional<PredictedStep> predict(const StepWork& step, ComputeType attention_type) const;
  /// Busy time at the roofline alone, with the gap and all other operations as they were.
  std::optional<PredictedStep> at_roofline(const StepShape& shape, const Estimate& estimate) const;

 private:
  struct PhaseModel {
    bool ran = false;
    Efficiency products, attention;
    double gap_s = 0;  // a step
    double other_step_s = 0, other_row_s = 0;
  };
  struct Floors {
    Floor products, attention;
  };
  using Efficiencies = std::array<Efficiency, kNumPhases>;
  std::optional<Floors> floors(const std::array<std::int64_t, kNumComputeTypes>& flops,
                               std::int64_t attention, std::int64_t weights, std::int64_t kv,
                               ComputeType attention_type) const;
  std::optional<PredictedStep> time(const StepWork& step, ComputeType attention_type,
                                    const Efficiencies& products, const Efficiencies& attention) const;
  void split_other(const PhaseTotalsArray& totals);

  Peaks peaks_;
  bool timed_ = false;  // operations, one by one
  std::array<PhaseModel, kNumPhases> phases_;
};

/// The mean step of a phase: nothing where it did not run. Contexts read through windows count as far as they
/// reach.
std::optional<StepShape> mean_step(const PhaseTotals& totals, Phase phase, const Estimate& estimate);

}  // namespace redline
