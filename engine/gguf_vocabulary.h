// A tokenizer as the keys of a GGUF file: the opposite of gguf_tokenizer_spec
// (engine/tokenizer/tokenizer_gguf.h).
#pragma once

#include <cstdint>

#include "engine/gguf_output.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Adds `tokenizer.*`: byte-level BPE, its vocabulary filled up to `vocab_size` with unused tokens. Throws
/// ModelFileError where GGUF has no name for the pre-tokenizer, or for what added tokens do to the spaces
/// beside them.
void add_vocabulary(GgufOutput& out, const TokenizerSpec& spec, std::int64_t vocab_size);

}  // namespace redline
