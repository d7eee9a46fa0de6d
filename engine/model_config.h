// What a model is, as data: one definition (engine/model.h) serves every architecture that these fields
// describe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace redline {

/// RMS norms of q and k before they rotate: each head by itself with weights [d], or all heads of q, and all
/// of k, as one vector with weights [Hq d] and [Hkv d].
enum class QkNorm : std::uint8_t { kNone, kEachHead, kJoinedHeads };

enum class RopeType : std::uint8_t { kPlain, kLinear, kLlama3, kYarn };

/// How rotary frequencies are stretched beyond the trained context. Fields that a type does not use keep
/// defaults.
struct RopeScaling {
  RopeType type = RopeType::kPlain;
  double factor = 1.0;
  std::int64_t original_max_positions = 0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn: correction range rounded to whole dimensions
  double attention_factor = 0.0;                         // yarn: cos and sin scale; 0: 0.1 ln(factor) + 1
  std::vector<float>
      frequency_divisors{};  // [rotary_dim / 2], a GGUF's rope_freqs tensor; empty: computed from type
};

/// Symbols of docs/accounting.md in brackets.
struct ModelConfig {
  std::string name;                // for people: file or directory name, or general.name
  std::string architecture;        // "llama": a row of engine/architecture.cpp
  std::int64_t num_layers = 0;     // L
  std::int64_t hidden_size = 0;    // H
  std::int64_t num_q_heads = 0;    // Hq
  std::int64_t num_kv_heads = 0;   // Hkv
  std::int64_t head_dim = 0;       // d
  std::int64_t ffn_size = 0;       // F
  std::int64_t vocab_size = 0;     // V
  std::int64_t max_positions = 0;  // the longest sequence that the model was made for
  std::int64_t rotary_dim = 0;     // leading dimensions of a head that rotate; head_dim unless partial
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;  // the head is the embedding table
  bool qkv_bias = false;
  QkNorm qk_norm = QkNorm::kNone;

  std::int64_t q_size() const { return num_q_heads * head_dim; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim; }
  std::int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

}  // namespace redline
