// SentencePiece's compiled character map: a double-array trie (darts-clone's layout) from texts to texts.
// Format: https://github.com/google/sentencepiece, src/normalizer.cc and third_party/darts_clone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace redline {

/// Immutable; the empty one maps nothing.
class Charsmap {
 public:
  Charsmap() = default;
  /// `blob`: u32 size of the trie in bytes, its u32 units (little-endian), then texts, each with a NUL behind
  /// it. Throws std::invalid_argument when it is no such thing; a trie that leads astray ends the lookup
  /// there.
  explicit Charsmap(std::string_view blob);

  bool empty() const { return units_.empty(); }

  struct Match {
    std::string_view replacement;
    std::size_t length = 0;  // of what is replaced
  };
  /// What the shortest or the longest key that `text` begins with maps to.
  std::optional<Match> shortest(std::string_view text) const { return find(text, true); }
  std::optional<Match> longest(std::string_view text) const { return find(text, false); }

 private:
  std::optional<Match> find(std::string_view text, bool stop_at_first) const;

  std::vector<std::uint32_t> units_;
  std::string texts_;  // ends with a NUL
};

}  // namespace redline
