// What a GGUF file's metadata says of its model.
#pragma once

#include "engine/gguf.h"
#include "engine/model_config.h"

namespace redline {

/// The configuration in `<architecture>.*`, rope_freqs.weight and rope_factors_*.weight; its name is left
/// empty. Throws ModelFileError naming the key, for an architecture or a feature that is not supported too.
ModelConfig gguf_model_config(const GgufFile& gguf);

}  // namespace redline
