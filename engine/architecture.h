// The architectures that run, one row each: what an architecture's name implies beyond the fields of its
// files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/model_config.h"

namespace redline {

/// Which layers config.json's sliding_window is for: none (transformers' class ignores it), all, those from
/// max_window_layers on, or those that do not rotate; the latter two where use_sliding_window says so, unless
/// layer_types names them.
enum class WindowedLayers : std::uint8_t { kNone, kAll, kUpper, kUnrotated };

struct Architecture {
  const char* model_type;  // in config.json; also ModelConfig::architecture
  const char* class_name;  // the one entry of config.json's `architectures`
  const char* gguf_name;   // general.architecture, and the prefix of its keys
  /// A GGUF holds the rows of each q and k head so that neighbours (2 i, 2 i + 1) rotate as a pair.
  bool gguf_interleaves_rope = false;
  bool fused_projections = false;  // files hold Q, K and V as one tensor, and gate and up
  bool qkv_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  NormPlacement norm_placement = NormPlacement::kBeforeBlock;
  bool partial_rotary = false;   // files may let a part of each head rotate
  bool has_multipliers = false;  // embedding, residual, attention and logits multipliers
  std::int64_t unrotated_period =
      0;  // every so many layers one does not rotate, unless config.json says which
  WindowedLayers windowed_layers = WindowedLayers::kNone;
  // Where config.json is silent:
  std::int64_t head_dim = 0;  // 0: H / Hq
  double rms_norm_eps = 1e-6;
  std::int64_t sliding_window = 0;
  bool tied_embeddings = false;

  /// Whether `layer` does not rotate, unless a file says otherwise.
  bool leaves_unrotated(std::int64_t layer) const {
    return unrotated_period > 0 && (layer + 1) % unrotated_period == 0;
  }
  /// Sets what the row says.
  void describe(ModelConfig& config) const;
};

/// The architecture whose config.json says `model_type`, or null.
const Architecture* find_hf_architecture(std::string_view model_type);
/// The architecture whose GGUF files call it `name`, or null.
const Architecture* find_gguf_architecture(std::string_view name);
/// "llama, mistral, ...": what config.json may say, and what a GGUF may.
std::string hf_architecture_names();
std::string gguf_architecture_names();

}  // namespace redline
