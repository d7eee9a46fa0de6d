// The tokenizer of a Hugging Face directory: tokenizer.json, or tokenizer.model where there is none, and
// beside it tokenizer_config.json, generation_config.json and chat_template.jinja where they exist.
#pragma once

#include <filesystem>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Throws ModelFileError, naming the file and the key, for what cannot be read, has the wrong type, or asks
/// for something that docs/models.md does not list.
TokenizerSpec load_tokenizer(const std::filesystem::path& directory);

}  // namespace redline
