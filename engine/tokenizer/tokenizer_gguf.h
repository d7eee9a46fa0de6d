// The tokenizer in a GGUF file's metadata.
#pragma once

#include "engine/gguf.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// What `tokenizer.ggml.*` describes: byte-level BPE ("gpt2", its pre-tokenizer by name), SentencePiece's BPE
/// ("llama"), unigram ("t5"), or Gemma's BPE of characters ("gemma4"). Throws ModelFileError naming the key.
TokenizerSpec gguf_tokenizer_spec(const GgufFile& gguf);

}  // namespace redline
