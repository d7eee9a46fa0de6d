// A set of strings, asked which of them a text goes on with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace redline {

/// Immutable. A lookup costs one binary search among at most 256 children for each byte that some key shares
/// with the text.
class PrefixTrie {
 public:
  struct Key {
    std::string_view text;
    std::int32_t value;  // at least 0
  };

  PrefixTrie() = default;
  /// Empty keys are left out; of equal keys the first in `keys` stays. Keeps no reference to the texts.
  explicit PrefixTrie(std::vector<Key> keys);

  bool empty() const { return nodes_.size() < 2; }

  /// Calls visit(value, length) for each key that `text` begins with, shortest first.
  template <typename Visit>
  void prefixes(std::string_view text, Visit visit) const {
    if (empty()) return;
    const Node* node = nodes_.data();
    for (std::size_t length = 1; length <= text.size(); ++length) {
      const auto byte = static_cast<unsigned char>(text[length - 1]);
      const Node* first = nodes_.data() + node->first_child;
      const Node* last = first + node->num_children;
      node = std::lower_bound(first, last, byte, [](const Node& n, unsigned b) { return n.byte < b; });
      if (node == last || node->byte != byte) return;
      if (node->value >= 0) visit(node->value, length);
    }
  }

  struct Match {
    std::int32_t value = -1;  // -1: none
    std::size_t length = 0;
  };
  /// The longest key that `text` begins with.
  Match longest_prefix(std::string_view text) const {
    Match match;
    prefixes(text, [&](std::int32_t value, std::size_t length) { match = {value, length}; });
    return match;
  }

 private:
  struct Node {
    std::uint32_t first_child = 0;
    std::int32_t value = -1;
    std::uint16_t num_children = 0;
    unsigned char byte = 0;
  };
  std::vector<Node> nodes_;  // the root, then level by level: siblings lie together, by byte
};

}  // namespace redline
