// Text to token ids and back. A text goes through five stages, each a file of this folder:
//   added tokens   cut out of the text as it is (added_token_set.h)
//   normaliser     rewrites what lies between them; more added tokens are cut out of the result
//   (normalizer.h) pre-tokenizer  cuts the rest into pieces (pre_tokenizer.h) model          turns each piece
//   into tokens: BPE, SentencePiece's BPE, or unigram (token_model.h) special tokens go before and after
// Invalid UTF-8 is let through: a run of invalid bytes is a piece of its own, and where the vocabulary holds
// every byte it comes back as the same bytes.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Immutable: any number of threads may use one.
class Tokenizer {
 public:
  /// Throws ModelFileError, naming spec.source and the entry, on merges of tokens that do not exist, patterns
  /// that do not compile and ids outside the vocabulary.
  explicit Tokenizer(TokenizerSpec spec);
  ~Tokenizer();

  struct EncodeOptions {
    bool add_special = true;    // BOS and EOS where the model asks for them
    bool parse_special = true;  // special tokens in the text are tokens; else text like any other
  };
  /// Time grows with n log n at worst. What the vocabulary lacks is dropped, or becomes unk_id where the
  /// model has one. Throws std::length_error beyond 1 GiB, and std::runtime_error where a model file's
  /// pattern backtracks without end.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options) const;
  std::vector<TokenId> encode(std::string_view text) const { return encode(text, EncodeOptions()); }

  /// The bytes that a token stands for (a special token: its name); empty for an id that is no token.
  std::string_view piece(TokenId id) const;
  /// The pieces joined, what spec().leading_strip says dropped at the start, invalid UTF-8 replaced by
  /// U+FFFD; the same text that Detokenizer streams.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  bool is_special(TokenId id) const;
  bool is_end_of_generation(TokenId id) const;
  /// One more than the largest id; a model's logits may be padded beyond.
  TokenId num_tokens() const { return static_cast<TokenId>(pieces_.size()); }
  /// The description with `tokens`, `merges` and `scores` left out (they live on in the stages).
  const TokenizerSpec& spec() const { return spec_; }

 private:
  struct Stages;
  struct Encoding;

  void check(const TokenizerSpec& spec) const;

  TokenizerSpec spec_;
  std::vector<std::string> pieces_;  // raw bytes by id
  std::vector<bool> special_;        // by id
  std::unique_ptr<const Stages> stages_;
};

}  // namespace redline
