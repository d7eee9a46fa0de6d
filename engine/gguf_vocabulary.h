// A tokenizer as the keys of a GGUF file: the opposite of gguf_tokenizer_spec
// (engine/tokenizer/tokenizer_gguf.h).
#pragma once

#include <cstdint>

#include "engine/gguf_output.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Adds `tokenizer.*`: byte-level BPE, SentencePiece's BPE and unigram, and BPE with SentencePiece's spaces
/// (as its BPE, scored by rank). The vocabulary is filled up to `vocab_size` with unused tokens. Throws
/// ModelFileError naming what GGUF has no words for: a pre-tokenizer or normaliser, merges that no scores
/// could replace, a token that takes the spaces before it along.
void add_vocabulary(GgufOutput& out, const TokenizerSpec& spec, std::int64_t vocab_size);

}  // namespace redline
