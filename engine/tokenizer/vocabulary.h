// Token texts to ids, and what becomes of a character that is no token.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/text_map.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Owns its texts.
class Vocabulary {
 public:
  /// `takes(id)`: whether the token may be made of text. Of equal texts the lowest id counts.
  template <typename Takes>
  Vocabulary(const TokenizerSpec& spec, Takes takes) : unk_id_(spec.unk_id), fuse_unk_(spec.fuse_unk) {
    ids_.reserve(spec.tokens.size());
    for (std::size_t i = 0; i < spec.tokens.size(); ++i)
      if (!spec.tokens[i].empty() && takes(i)) ids_.try_emplace(spec.tokens[i], static_cast<TokenId>(i));
    if (spec.byte_fallback) read_byte_ids(spec);
  }

  /// kNoToken for a text that is none.
  TokenId find(std::string_view text) const {
    const auto it = ids_.find(text);
    return it == ids_.end() ? kNoToken : it->second;
  }

  /// Hands the tokens of `character`, which is no token, to append(id): its bytes', where the vocabulary has
  /// them all, else unk_id. `after_unk` says whether such a character came right before, and is kept up to
  /// date.
  template <typename Append>
  void fall_back(std::string_view character, bool& after_unk, Append append) const {
    bool has_bytes = has_byte_ids_;
    for (const char byte : character) has_bytes = has_bytes && byte_id(byte) != kNoToken;
    if (has_bytes) {
      for (const char byte : character) append(byte_id(byte));
    } else if (unk_id_ != kNoToken && !(after_unk && fuse_unk_)) {
      append(unk_id_);
    }
    after_unk = !has_bytes;
  }

 private:
  void read_byte_ids(const TokenizerSpec& spec);
  TokenId byte_id(char byte) const { return byte_ids_[static_cast<unsigned char>(byte)]; }

  TextMap<TokenId> ids_;
  std::array<TokenId, 256> byte_ids_{};
  bool has_byte_ids_ = false;
  TokenId unk_id_;
  bool fuse_unk_;
};

/// The byte that "<0xNN>" names, -1 for any other text.
int byte_of_name(std::string_view text);

/// `spec.kinds[id]`, normal where there is none.
inline TokenKind kind_of(const TokenizerSpec& spec, std::size_t id) {
  return id < spec.kinds.size() ? spec.kinds[id] : TokenKind::kNormal;
}

}  // namespace redline
