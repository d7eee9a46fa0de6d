#include "engine/constraint/token_trie.h"

#include <algorithm>
#include <utility>

namespace redline {

TokenTrie::TokenTrie(TokenId num_tokens, const std::function<std::string_view(TokenId)>& text_of) {
  constexpr std::size_t kMaxTokenBytes = UINT16_MAX;
  std::vector<std::pair<std::string_view, TokenId>> texts;
  for (TokenId id = 0; id < num_tokens; ++id) {
    const std::string_view text = text_of(id);
    if (!text.empty() && text.size() <= kMaxTokenBytes) texts.emplace_back(text, id);
  }
  std::ranges::sort(texts);
  nodes_.emplace_back();
  std::vector<std::size_t> path = {0};  // the nodes from the root to the last text's
  std::string_view last;
  for (const auto& [text, id] : texts) {
    const auto shared = static_cast<std::size_t>(std::ranges::mismatch(last, text).in1 - last.begin());
    for (; path.size() > shared + 1; path.pop_back())
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
    while (path.size() <= text.size()) {
      nodes_.push_back({.tokens = static_cast<std::uint32_t>(tokens_.size()),
                        .depth = static_cast<std::uint16_t>(path.size()),
                        .byte = static_cast<unsigned char>(text[path.size() - 1])});
      path.push_back(nodes_.size() - 1);
    }
    tokens_.push_back(id);
    max_depth_ = std::max(max_depth_, text.size());
    last = text;
  }
  for (const std::size_t node : path) nodes_[node].end = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({.tokens = static_cast<std::uint32_t>(tokens_.size())});
}

}  // namespace redline
