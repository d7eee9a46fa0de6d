#include "engine/tokenizer/added_token_set.h"

#include "engine/utf8.h"

namespace redline {
namespace {

std::size_t character_before(std::string_view text, std::size_t at) {
  do --at;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

// Whether the character at `at` matches `pattern`, which is one character class.
bool matches_at(const Regex& pattern, std::string_view text, std::size_t at) {
  const std::string_view character = text.substr(at, utf8_unit(text, at).num_bytes);
  return Regex::Matcher(pattern).find(character, 0).has_value();
}

bool is_word(std::string_view text, std::size_t at) {
  static const Regex pattern(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])");
  return matches_at(pattern, text, at);
}

bool is_space(std::string_view text, std::size_t at) {
  static const Regex pattern(R"(\s)");
  return matches_at(pattern, text, at);
}

}  // namespace

void AddedTokenSet::add(const AddedToken& token, std::string content) {
  if (content.empty()) return;
  starts_[static_cast<unsigned char>(content[0])] = true;
  tokens_.push_back(&token);
  contents_.push_back(std::move(content));
}

void AddedTokenSet::seal() {
  std::vector<PrefixTrie::Key> keys;
  for (std::size_t i = 0; i < contents_.size(); ++i)
    keys.push_back({contents_[i], static_cast<std::int32_t>(i)});
  trie_ = PrefixTrie(std::move(keys));
}

std::optional<AddedTokenSet::Match> AddedTokenSet::Search::next(std::string_view text, std::size_t start,
                                                                std::size_t floor) const {
  for (std::size_t at = start; at < text.size(); ++at) {
    if (!set_.starts_[static_cast<unsigned char>(text[at])]) continue;
    const PrefixTrie::Match found = set_.trie_.longest_prefix(text.substr(at));
    if (found.value < 0) continue;
    const AddedToken& token = *set_.tokens_[static_cast<std::size_t>(found.value)];
    std::size_t begin = at, end = at + found.length;
    at = end - 1;  // where it is not taken, the search goes on behind it
    if (token.special && !parse_special_) continue;
    if (token.single_word && ((begin > 0 && is_word(text, character_before(text, begin))) ||
                              (end < text.size() && is_word(text, end))))
      continue;
    while (token.lstrip && begin > floor && is_space(text, character_before(text, begin)))
      begin = character_before(text, begin);
    while (token.rstrip && end < text.size() && is_space(text, end)) end += utf8_unit(text, end).num_bytes;
    return Match{&token, begin, end};
  }
  return std::nullopt;
}

}  // namespace redline
