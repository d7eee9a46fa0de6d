// What steps of a model take here: seen, not assumed.
#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "engine/meter/plan.h"

namespace redline {

/// What to look at. Prompts have `prompt_tokens`; decode runs at 1, 2, 4, ... sequences up to
/// `most_sequences` after `depth` tokens.
struct MeasuredShapes {
  std::int64_t prompt_tokens = 512, depth = 256, most_sequences = 32;
  EngineOptions engine{};  // its cache is made to fit
};

/// Runs random prompts through an engine of its own, scheduling and sampling included, for some seconds:
/// growing batches end once they take too long. The result keeps a reference to the model's backend. Throws
/// std::runtime_error where a peak is unknown.
StepTimes measure_steps(std::shared_ptr<LoadedModel> model, const MeasuredShapes& shapes);

}  // namespace redline
