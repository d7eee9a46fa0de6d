// Added tokens that are looked for together: leftmost, then longest.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/regex.h"
#include "engine/tokenizer/prefix_trie.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Immutable once sealed.
class AddedTokenSet {
 public:
  /// `token` must outlive the set; `content` is what is looked for.
  void add(const AddedToken& token, std::string content);
  void seal();

  struct Match {
    const AddedToken* token;
    std::size_t begin, end;  // with the white space that the token takes along
  };

  /// Goes through one text, valid UTF-8.
  class Search {
   public:
    Search(const AddedTokenSet& set, bool parse_special) : set_(set), parse_special_(parse_special) {}
    /// Calls token(id) and rest(begin, end) in the order of the text; rests are not empty.
    template <typename OnToken, typename OnRest>
    void cut(std::string_view text, OnToken on_token, OnRest on_rest) {
      std::size_t done = 0;
      for (std::size_t at = 0; const auto match = next(text, at, done);) {
        if (match->begin > done) on_rest(done, match->begin);
        on_token(match->token->id);
        at = done = match->end;
      }
      if (done < text.size()) on_rest(done, text.size());
    }

   private:
    std::optional<Match> next(std::string_view text, std::size_t start, std::size_t floor) const;

    const AddedTokenSet& set_;
    bool parse_special_;
  };

 private:
  std::vector<const AddedToken*> tokens_;
  std::vector<std::string> contents_;
  PrefixTrie trie_;  // to indices of tokens_
  std::array<bool, 256> starts_{};
};

}  // namespace redline
