#include "engine/tokenizer/charsmap.h"

#include <stdexcept>

namespace redline {
namespace {

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// The fields of a unit.
bool has_value(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFF; }
std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000FF; }
std::uint32_t offset_of(std::uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view blob) {
  if (blob.empty()) return;
  const std::size_t trie_size = blob.size() < 4 ? 0 : read_u32(blob);
  if (trie_size == 0 || trie_size % 4 != 0 || trie_size >= blob.size() - 4)
    throw std::invalid_argument("a character map of " + std::to_string(blob.size()) +
                                " bytes cannot hold a trie of " + std::to_string(trie_size));
  for (std::size_t at = 4; at < 4 + trie_size; at += 4) units_.push_back(read_u32(blob.substr(at)));
  texts_ = blob.substr(4 + trie_size);
  if (texts_.back() != '\0') throw std::invalid_argument("a character map's last text has no end");
}

std::optional<Charsmap::Match> Charsmap::find(std::string_view text, bool stop_at_first) const {
  std::optional<Match> match;
  if (empty()) return match;
  std::size_t at = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || label_of(units_[at]) != byte) break;
    const std::uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (at >= units_.size() || value_of(units_[at]) >= texts_.size()) break;
    const std::size_t begin = value_of(units_[at]);
    match = Match{std::string_view(texts_).substr(begin, texts_.find('\0', begin) - begin), i + 1};
    if (stop_at_first) break;
  }
  return match;
}

}  // namespace redline
