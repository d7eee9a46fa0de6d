// The architectures that run, one row each: what an architecture's name implies beyond the fields of its
// files.
#pragma once

#include <string>
#include <string_view>

#include "engine/model_config.h"

namespace redline {

struct Architecture {
  const char* model_type;  // in config.json; also ModelConfig::architecture
  const char* class_name;  // the one entry of config.json's `architectures`
  const char* gguf_name;   // general.architecture, and the prefix of its keys
  /// A GGUF holds the rows of each q and k head so that neighbours (2 i, 2 i + 1) rotate as a pair.
  bool gguf_interleaves_rope = false;
  std::int64_t head_dim = 0;   // where config.json is silent; 0: H / Hq
  double rms_norm_eps = 1e-6;  // likewise
  bool qkv_bias = false;
  QkNorm qk_norm = QkNorm::kNone;

  /// Sets what the row says.
  void describe(ModelConfig& config) const;
};

/// The architecture whose config.json says `model_type`, or null.
const Architecture* find_hf_architecture(std::string_view model_type);
/// The architecture whose GGUF files call it `name`, or null.
const Architecture* find_gguf_architecture(std::string_view name);
/// "llama, qwen2, ...": what config.json may say, and what a GGUF may.
std::string hf_architecture_names();
std::string gguf_architecture_names();

}  // namespace redline
