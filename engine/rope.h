// Rotary position embedding: the table of angles' cosines and sines for a model.
#pragma once

#include <vector>

#include "engine/model_config.h"
#include "kernels/ops.h"

namespace redline {

/// Angle of dimension pair i at position p: p * inverse_frequency(i). Scaling follows Hugging Face
/// transformers' definitions of linear, llama3, yarn (Peng et al. 2023, arXiv:2309.00071) and longrope (Ding
/// et al. 2024, arXiv:2402.13753).
class RopeTable {
 public:
  /// For sequences of up to `max_context` tokens (0: the model's own): longrope has other frequencies beyond
  /// the trained length.
  explicit RopeTable(const ModelConfig& config, std::int64_t max_context = 0);

  /// Radians per position, [rotary_dim / 2].
  const std::vector<float>& inverse_frequencies() const { return inverse_frequencies_; }
  /// Factor on cos and sin: 1 but for yarn and longrope.
  float attention_factor() const { return attention_factor_; }
  /// A view that holds positions [0, num_positions); valid until the next call. Rows are computed once.
  RopeView view(std::int64_t num_positions);

 private:
  std::vector<float> inverse_frequencies_;
  float attention_factor_ = 1.0f;
  std::vector<float> cos_, sin_;  // [positions so far, rotary_dim / 2]
};

}  // namespace redline
