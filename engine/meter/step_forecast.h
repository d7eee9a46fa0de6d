// How long the next step will take, for who puts it together: the step model, corrected by the steps before.
#pragma once

#include <optional>

#include "engine/meter/step_model.h"
#include "scheduler/step_budget.h"

namespace redline {

/// Begins with every operation at a share of the roofline that most devices exceed. Each step then tells by
/// how much a decode step, and what a prompt adds to it, differ from that: two ratios, each a mean that
/// forgets exponentially. Sequences count as if all had the mean depth. Not thread-safe.
class StepForecast {
 public:
  /// Throws std::runtime_error where a peak that the model needs is unknown.
  StepForecast(Estimate estimate, const Peaks& peaks);

  double seconds(const StepLoad& load) const;
  /// A step of `load` took this long, the gap before it included.
  void learn(const StepLoad& load, double seconds);
  /// The least that a step of one sequence takes, at the peaks.
  double least_s() const;

 private:
  /// By the model alone: a step's decoding sequences, and what its prompts add.
  struct Parts {
    double decode_s = 0, added_s = 0;
  };
  Parts parts(const StepLoad& load) const;

  Estimate estimate_;
  Peaks peaks_;
  StepModel model_;
  std::optional<double> decode_ratio_, added_ratio_;  // measured by modelled; nothing before the first step
};

}  // namespace redline
