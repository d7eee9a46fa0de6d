#include "engine/tokenizer/prefix_trie.h"

namespace redline {

PrefixTrie::PrefixTrie(std::vector<Key> keys) {
  std::erase_if(keys, [](const Key& key) { return key.text.empty(); });
  std::ranges::stable_sort(keys, {}, &Key::text);
  nodes_.emplace_back();
  struct Range {
    std::size_t begin, end;  // of `keys`: those below a node
  };
  std::vector<Range> ranges = {{0, keys.size()}};
  std::size_t depth = 0, level_begin = 0;
  while (level_begin < nodes_.size()) {
    const std::size_t level_end = nodes_.size();
    for (std::size_t at = level_begin; at < level_end; ++at) {
      auto [begin, end] = ranges[at];
      while (begin < end && keys[begin].text.size() == depth) ++begin;  // the node's own key, sorted first
      nodes_[at].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (begin < end) {
        const auto byte = static_cast<unsigned char>(keys[begin].text[depth]);
        std::size_t next = begin;
        while (next < end && static_cast<unsigned char>(keys[next].text[depth]) == byte) ++next;
        const bool is_key = keys[begin].text.size() == depth + 1;
        nodes_.push_back({.value = is_key ? keys[begin].value : -1, .byte = byte});
        ranges.push_back({begin, next});
        nodes_[at].num_children += 1;
        begin = next;
      }
    }
    level_begin = level_end;
    depth += 1;
  }
}

}  // namespace redline
