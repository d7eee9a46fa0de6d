// Choosing tokens on the device: requests go up in one copy, tokens and what was asked about them come down.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/handles.h"
#include "kernels/token_sampling.h"

namespace redline::cuda {

class TokenChoice {
 public:
  /// Enqueues all of it on `stream`. `logits` [R, V] f32 in device memory.
  void launch(TensorView logits, const std::vector<ChoiceRequest>& requests, const Stream& stream);
  /// What was chosen last, once the stream has been synchronised.
  std::vector<ChosenToken> results() const;

 private:
  struct Asked {
    std::int32_t count = -1;  // of the likeliest; -1: no logprobs
    std::int32_t index = 0;   // of the results
    std::int32_t first_key = 0;
  };

  std::vector<Asked> asked_;  // by choice
  std::int64_t num_results_ = 0, num_keys_ = 0;
  Buffer host_in_, device_in_;    // parameters
  Buffer host_out_, device_out_;  // tokens, logprobs
  Buffer prepared_, keys_;
};

}  // namespace redline::cuda
