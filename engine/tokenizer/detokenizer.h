// Token ids to text as they arrive, never splitting a character.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/utf8.h"

namespace redline {

/// One stream of text. The texts returned, joined, are Tokenizer::decode of the same ids if they are a text
/// of their own; if they continue one (an answer, after its prompt), nothing is dropped at their start, so
/// that SentencePiece's space between two words stays.
class Detokenizer {
 public:
  enum class Begins { kText, kContinuation };

  /// Keeps a reference to `tokenizer`. `shown`: special tokens that are not skipped.
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true, Begins begins = Begins::kText,
                       std::vector<TokenId> shown = {})
      : tokenizer_(tokenizer),
        skip_special_(skip_special),
        shown_(std::move(shown)),
        at_start_(begins == Begins::kText) {}

  /// The text that is certain once `id` is known; may be empty.
  std::string feed(TokenId id);
  /// The end of the text: U+FFFD where it breaks off inside a character.
  std::string finish() { return stream_.finish(); }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<TokenId> shown_;
  bool at_start_;  // what may be dropped may still come
  std::size_t num_dropped_ = 0;
  Utf8Stream stream_;
};

}  // namespace redline
