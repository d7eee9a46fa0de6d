// The tokenizer of a Hugging Face directory: tokenizer.json, and beside it tokenizer_config.json,
// generation_config.json and chat_template.jinja where they exist.
#pragma once

#include <filesystem>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Throws ModelFileError, naming the file and the key, for what cannot be read, has the wrong type, or asks
/// for something other than byte-level BPE: a normalizer, a byte fallback, a pre-tokenizer or post-processor
/// beyond splits by pattern, digits, ByteLevel and one token before or after the text.
TokenizerSpec load_tokenizer_json(const std::filesystem::path& directory);

}  // namespace redline
