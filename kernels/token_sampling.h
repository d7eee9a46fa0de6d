// Choosing tokens where the logits are: what a backend with memory of its own offers besides Ops, so that of
// a step only its tokens come to the host.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace redline {

/// A change to one logit x: x + bias; then over repetition_penalty where positive, else times it; then less
/// `subtract`; -infinity where it is forbidden.
struct LogitEdit {
  std::int32_t token = 0;
  float bias = 0;
  float repetition_penalty = 1;
  float subtract = 0;
  bool is_forbidden = false;
};

/// One token to choose from row `row` of the logits: the largest, ties to the lower id, where the temperature
/// is 0; else drawn as engine/draw.h says, with `uniform` in [0, 1).
struct ChoiceRequest {
  std::int32_t row = 0;
  float temperature = 0;
  std::int32_t top_k = 0;
  float top_p = 1, min_p = 0;
  double uniform = 0;
  std::vector<LogitEdit> edits;        // a token at most once
  std::vector<std::uint64_t> allowed;  // bit t % 64 of word t / 64: whether token t may be chosen; empty: all
  std::int32_t num_logprobs = -1;      // of the likeliest tokens of the row itself; -1: nothing of them
};

/// token -1: the row holds NaN or +infinity, or nothing is left to choose. The rest is there where logprobs
/// were asked for: of the row as the model gave it, the chosen token's logit, log(sum(exp(logits))), and the
/// likeliest tokens with their logits, best first.
struct ChosenToken {
  std::int32_t token = -1;
  float logit = 0;
  double log_sum_exp = 0;
  std::vector<std::pair<std::int32_t, float>> likeliest;
};

class TokenSampling {
 public:
  virtual ~TokenSampling() = default;
  /// In a step, after its last operation: lets the device begin, while the caller still works out what to
  /// ask.
  virtual void start_step() = 0;
  /// Has tokens chosen from rows of `logits` [R, V], in the backend's memory and left as they are, once the
  /// work before is done. Several requests may name one row.
  virtual void choose(TensorView logits, const std::vector<ChoiceRequest>& requests) = 0;
  /// What was chosen last, in the requests' order. Waits for it.
  virtual std::vector<ChosenToken> chosen() = 0;
};

}  // namespace redline
