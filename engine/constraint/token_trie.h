// A vocabulary's texts as a tree, walked together with a grammar.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Every token that stands for bytes, by those bytes. Nodes lie in preorder: a node's subtree is the range up
/// to its end. Immutable.
class TokenTrie {
 public:
  struct Node {
    std::uint32_t end = 0;     // after its subtree
    std::uint32_t tokens = 0;  // where its own begin; the next node's begin where they end
    std::uint16_t depth = 0;   // 0: the root
    unsigned char byte = 0;
  };

  /// `text_of(id)`: the bytes of a token below `num_tokens`; empty: it stands for none, and is left out.
  TokenTrie(TokenId num_tokens, const std::function<std::string_view(TokenId)>& text_of);

  std::span<const Node> nodes() const { return std::span(nodes_).first(nodes_.size() - 1); }
  /// Those that end at nodes()[index].
  std::span<const TokenId> tokens(std::size_t index) const {
    return std::span(tokens_).subspan(nodes_[index].tokens, nodes_[index + 1].tokens - nodes_[index].tokens);
  }
  std::size_t max_depth() const { return max_depth_; }

 private:
  std::vector<Node> nodes_;  // and one after the last
  std::vector<TokenId> tokens_;
  std::size_t max_depth_ = 0;
};

}  // namespace redline
