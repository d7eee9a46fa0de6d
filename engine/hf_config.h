// Hugging Face's config.json.
#pragma once

#include <filesystem>

#include "engine/model_config.h"

namespace redline {

class JsonFile;

/// The configuration in config.json; its name is left empty. Absent fields take the defaults of transformers'
/// class for the architecture. Throws ModelFileError naming the field, for an architecture or a feature that
/// is not supported too.
ModelConfig read_hf_config(const std::filesystem::path& config_json);
ModelConfig read_hf_config(const JsonFile& config_json);

}  // namespace redline
