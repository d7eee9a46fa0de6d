// A model of sums and a device to hold them against: for tests of what the meter predicts.
#pragma once

#include "engine/model_config.h"
#include "kernels/ledger.h"

namespace redline {

inline ModelConfig small_llama() {
  ModelConfig c;
  c.num_layers = 12;
  c.hidden_size = 768;
  c.num_q_heads = 12;
  c.num_kv_heads = 4;
  c.head_dim = 64;
  c.ffn_size = 2048;
  c.vocab_size = 32000;
  return c;
}

inline Peaks peaks_at(double flops_per_s, double bytes_per_s) {
  Peaks peaks;
  peaks.flops[static_cast<std::size_t>(ComputeType::kBF16)] = flops_per_s;
  peaks.bandwidth = bytes_per_s;
  return peaks;
}

}  // namespace redline
