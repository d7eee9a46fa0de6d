// The logits of a whole text, for perplexity and for comparing models.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/engine.h"

namespace redline {

struct EvaluateOptions {
  DType kv_dtype = DType::kBF16;
  std::int32_t chunk_tokens = 256;  // tokens a step; results do not depend on it
};

/// Runs `tokens` through the model as one sequence and calls `visit(t, logits)` for every t in order, logits
/// [V] being those after token t. `observer`, where given, sees every step. Throws std::runtime_error, with
/// both numbers, when the text or its cache is too large.
void for_each_logits(LoadedModel& model, std::span<const std::int32_t> tokens, const EvaluateOptions& options,
                     const std::function<void(std::int64_t, std::span<const float>)>& visit,
                     const StepObserver& observer = {});

}  // namespace redline
