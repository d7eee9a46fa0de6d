// Text to token ids and back: byte-level BPE as Hugging Face's `tokenizers` runs it. A text goes through four
// sieves: special and added tokens are cut out; the rest is cut by the pre-tokenizer's patterns; each piece's
// bytes become tokens; adjacent tokens merge, best rank first. Invalid UTF-8 is let through: a run of invalid
// bytes is a piece of its own, never pre-tokenized, and comes back as the same bytes.
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
  /// Time grows with n log n at worst. Bytes that the vocabulary lacks are dropped, or become unk_id where
  /// the model has one. Throws std::length_error beyond 1 GiB, and std::runtime_error where a model file's
  /// pattern backtracks without end.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options) const;
  std::vector<TokenId> encode(std::string_view text) const { return encode(text, EncodeOptions()); }

  /// The bytes that a token stands for (a special token: its name); empty for an id that is no token.
  std::string_view piece(TokenId id) const;
  /// The pieces joined, invalid UTF-8 replaced by U+FFFD; the same text that Detokenizer streams.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  bool is_special(TokenId id) const;
  bool is_end_of_generation(TokenId id) const;
  /// One more than the largest id; a model's logits may be padded beyond.
  TokenId num_tokens() const { return static_cast<TokenId>(pieces_.size()); }
  /// The description with `tokens` and `merges` left out (they live on as pieces and ranks).
  const TokenizerSpec& spec() const { return spec_; }

 private:
  struct Tables;
  struct Encoding;

  void check_id(TokenId id, const std::string& item) const;
  void read_vocabulary(Tables& tables);

  TokenizerSpec spec_;
  std::vector<std::string> pieces_;  // raw bytes by id
  std::vector<bool> special_;        // by id
  std::unique_ptr<const Tables> tables_;
};

}  // namespace redline
