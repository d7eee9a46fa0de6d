// What each token stands for when ids become text.
#pragma once

#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// The bytes of each token by id: spec.decoder applied to its text. Added tokens of byte-level vocabularies,
/// which are not spelled in the alphabet, and special ones stand for their text. Throws ModelFileError on a
/// pattern that does not compile.
std::vector<std::string> token_bytes(const TokenizerSpec& spec);

}  // namespace redline
