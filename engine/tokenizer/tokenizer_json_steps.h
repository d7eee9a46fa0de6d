// The stages that tokenizer.json declares, each as the spec has it.
#pragma once

#include "engine/tokenizer/json_tree.h"

namespace redline {

// Each fills its part of `spec` and throws ModelFileError naming what is not supported.

void read_normalizer(const JsonTree& file, TokenizerSpec& spec);
/// Sets byte_level too.
void read_pre_tokenizer(const JsonTree& file, TokenizerSpec& spec);
/// Requires byte_level.
void read_decoder(const JsonTree& file, TokenizerSpec& spec);
/// Whether it says what goes before and after a text.
bool read_post_processor(const JsonTree& file, TokenizerSpec& spec);

}  // namespace redline
