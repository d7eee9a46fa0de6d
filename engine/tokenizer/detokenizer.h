// Token ids to text as they arrive, never splitting a character.
#pragma once

#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "engine/utf8.h"

namespace redline {

/// One answer's stream. The texts returned, joined, are Tokenizer::decode of the same ids.
class Detokenizer {
 public:
  /// Keeps a reference to `tokenizer`.
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  /// The text that is certain once `id` is known; may be empty.
  std::string feed(TokenId id) {
    return skip_special_ && tokenizer_.is_special(id) ? std::string() : stream_.feed(tokenizer_.piece(id));
  }
  /// The end of the text: U+FFFD where it breaks off inside a character.
  std::string finish() { return stream_.finish(); }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  Utf8Stream stream_;
};

}  // namespace redline
