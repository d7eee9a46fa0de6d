// The fourth stage: a piece to token ids.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Immutable; shared by threads.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the tokens of `piece`: valid UTF-8, or bytes that are none, not empty.
  virtual void encode(std::string_view piece, std::vector<TokenId>& ids) const = 0;
};

// Each copies what it needs of `spec`, whose scores and kinds (if any) are as many as its tokens, and throws
// ModelFileError naming the entry that does not fit.
std::unique_ptr<const TokenModel> make_ranked_bpe(const TokenizerSpec& spec);
std::unique_ptr<const TokenModel> make_scored_bpe(const TokenizerSpec& spec);
std::unique_ptr<const TokenModel> make_unigram(const TokenizerSpec& spec);

}  // namespace redline
