// SentencePiece's tokenizer.model.
// Format: https://github.com/google/sentencepiece, src/sentencepiece_model.proto (protocol buffers).
#pragma once

#include <filesystem>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Throws ModelFileError naming the field and its offset; for models that are neither BPE nor unigram too.
TokenizerSpec load_sentencepiece(const std::filesystem::path& path);

/// What every SentencePiece vocabulary has, once `spec` has its tokens, kinds and scores: control and unknown
/// tokens are special, unknown characters fall back to bytes where the vocabulary has any, and the decoder.
void set_sentencepiece_rules(TokenizerSpec& spec);

}  // namespace redline
