// What a model is, as data: one definition (engine/model.h) serves every architecture that these fields
// describe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace redline {

/// RMS norms of q and k before they rotate: each head by itself with weights [d], or all heads of q, and all
/// of k, as one vector with weights [Hq d] and [Hkv d].
enum class QkNorm : std::uint8_t { kNone, kEachHead, kJoinedHeads };

/// Where a layer's two norms stand: on what each block reads, or on what it computed, before that joins the
/// residual stream.
enum class NormPlacement : std::uint8_t { kBeforeBlock, kAfterBlock };

enum class RopeType : std::uint8_t { kPlain, kLinear, kLlama3, kYarn, kLongRope };

/// How rotary frequencies are stretched beyond the trained context. Fields that a type does not use keep
/// defaults.
struct RopeScaling {
  RopeType type = RopeType::kPlain;
  double factor = 1.0;
  std::int64_t original_max_positions = 0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn: correction range rounded to whole dimensions
  double attention_factor = 0.0;  // yarn, longrope: cos and sin scale; 0: 0.1 ln(factor) + 1
  // All [rotary_dim / 2], what frequencies are divided by. A GGUF's rope_freqs tensor; empty: computed from
  // type.
  std::vector<float> frequency_divisors{};
  // longrope: in contexts of up to original_max_positions tokens, and in longer ones
  std::vector<float> short_divisors{}, long_divisors{};
};

/// What may differ from layer to layer.
struct LayerConfig {
  bool rotates = true;      // false: q and k have no rotary embedding
  std::int64_t window = 0;  // keys that a query sees, the last ones, its own included; 0: all

  bool operator==(const LayerConfig&) const = default;
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
  NormPlacement norm_placement = NormPlacement::kBeforeBlock;
  std::vector<LayerConfig> layers;    // [L]; empty: all alike, as LayerConfig says
  double embedding_multiplier = 1.0;  // of the embedding's rows
  double residual_multiplier = 1.0;   // of what a block computed, when it joins the residual stream
  double attention_multiplier = 0.0;  // of attention's scores; 0: 1 / sqrt(d)
  double logits_divisor = 1.0;

  LayerConfig layer(std::int64_t index) const {
    return layers.empty() ? LayerConfig{} : layers[static_cast<std::size_t>(index)];
  }
  /// Keys that a query sees at most in any layer; 0: all.
  std::int64_t window() const {
    std::int64_t widest = 0;
    for (const LayerConfig& layer : layers) {
      if (layer.window == 0) return 0;
      widest = std::max(widest, layer.window);
    }
    return widest;
  }

  std::int64_t q_size() const { return num_q_heads * head_dim; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim; }
  std::int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

}  // namespace redline
