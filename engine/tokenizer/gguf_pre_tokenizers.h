// What the names in GGUF's `tokenizer.ggml.pre` stand for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Sets what GGUF's pre-tokenizer `name` ("smollm", "llama-bpe", "gpt-2", "qwen2", "default", ...) stands
/// for: normalizer, pre_tokenizer, ignore_merges. False, and nothing set, if the name is unknown.
bool set_pre_tokenizer(TokenizerSpec& spec, std::string_view name);

/// Whether a file that does not say so puts BOS before the text under pre-tokenizer `name`.
bool pre_tokenizer_adds_bos(std::string_view name);

/// The name that set_pre_tokenizer knows for the spec's normalizer, pre_tokenizer and ignore_merges, or
/// nothing.
std::string pre_tokenizer_name(const TokenizerSpec& spec);

/// The names that set_pre_tokenizer knows; docs/models.md lists them.
std::vector<std::string_view> known_pre_tokenizers();

/// The pattern built into Hugging Face's ByteLevel.
std::string_view gpt2_pattern();

}  // namespace redline
