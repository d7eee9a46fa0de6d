#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <queue>
#include <stdexcept>
#include <unordered_map>

#include "engine/model_file_error.h"
#include "engine/regex.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/utf8.h"

namespace redline {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

struct Merge {
  std::int32_t rank;
  TokenId id;
};

std::uint64_t pair_key(TokenId left, TokenId right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

// Added tokens that are looked for together: leftmost, then longest.
class AddedTokenSet {
 public:
  struct Match {
    const AddedToken* token;
    std::size_t begin, end;
  };

  void add(const AddedToken& token) {
    tokens_.push_back(&token);
    starts_[static_cast<unsigned char>(token.content[0])] = true;
  }
  void seal() {
    std::ranges::stable_sort(tokens_, {}, [](const AddedToken* t) { return std::string_view(t->content); });
  }

  std::optional<Match> find(std::string_view text, std::size_t start) const {
    for (std::size_t at = start; at < text.size(); ++at) {
      if (!starts_[static_cast<unsigned char>(text[at])]) continue;
      if (const AddedToken* token = longest_at(text.substr(at)))
        return Match{token, at, at + token->content.size()};
    }
    return std::nullopt;
  }

 private:
  // Narrows the sorted tokens to those that share one more byte with the text, until none does.
  const AddedToken* longest_at(std::string_view text) const {
    const AddedToken* longest = nullptr;
    auto first = tokens_.begin(), last = tokens_.end();
    for (std::size_t depth = 0; depth < text.size() && first != last; ++depth) {
      const auto byte_at = [depth](const AddedToken* t) {
        return depth < t->content.size() ? static_cast<unsigned char>(t->content[depth]) : -1;
      };
      const auto range = std::ranges::equal_range(
          first, last, static_cast<int>(static_cast<unsigned char>(text[depth])), {}, byte_at);
      first = range.begin(), last = range.end();
      if (first != last && (*first)->content.size() == depth + 1) longest = *first;
    }
    return longest;
  }

  std::vector<const AddedToken*> tokens_;  // owned by the tokenizer's spec
  std::array<bool, 256> starts_{};
};

}  // namespace

struct Tokenizer::Tables {
  std::unordered_map<std::uint64_t, Merge> merges;      // by pair_key
  std::unordered_map<std::string_view, TokenId> whole;  // by piece; only where merges may be ignored
  std::array<TokenId, 256> byte_ids;                    // kNoToken where the vocabulary lacks the byte
  std::vector<Regex> patterns;
  AddedTokenSet raw_tokens, normalized_tokens;
  Regex word{R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])"}, spaces{R"(\G\s+)"};
};

Tokenizer::~Tokenizer() = default;

Tokenizer::Tokenizer(TokenizerSpec spec) : spec_(std::move(spec)) {
  for (TokenId id : {spec_.bos_id, spec_.eos_id, spec_.pad_id, spec_.unk_id})
    if (id != kNoToken) check_id(id, "special token ids");
  auto tables = std::make_unique<Tables>();
  special_.resize(spec_.tokens.size());
  for (const AddedToken& token : spec_.added_tokens) {
    check_id(token.id, "added token '" + token.content + "'");
    special_[static_cast<std::size_t>(token.id)] = token.special;
    if (!token.content.empty())
      (token.normalized ? tables->normalized_tokens : tables->raw_tokens).add(token);
  }
  tables->raw_tokens.seal();
  tables->normalized_tokens.seal();
  for (const std::string& pattern : spec_.split_patterns) try {
      tables->patterns.emplace_back(pattern);
    } catch (const std::invalid_argument& error) {
      throw ModelFileError({.file = spec_.source, .item = "pre-tokenizer"}, error.what());
    }
  read_vocabulary(*tables);
  spec_.tokens = {}, spec_.merges = {};
  tables_ = std::move(tables);
}

void Tokenizer::check_id(TokenId id, const std::string& item) const {
  if (id < 0 || static_cast<std::size_t>(id) >= spec_.tokens.size())
    throw ModelFileError({.file = spec_.source, .item = item},
                         "an id below " + std::to_string(spec_.tokens.size()), std::to_string(id));
}

void Tokenizer::read_vocabulary(Tables& tables) {
  std::unordered_map<std::string_view, TokenId> ids;  // by text
  ids.reserve(spec_.tokens.size());
  pieces_.reserve(spec_.tokens.size());
  for (const std::string& text : spec_.tokens) {
    if (!text.empty()) ids.try_emplace(text, static_cast<TokenId>(pieces_.size()));
    pieces_.push_back(bytes_from_alphabet(text).value_or(text));
  }
  for (const AddedToken& token : spec_.added_tokens)
    pieces_[static_cast<std::size_t>(token.id)] = token.content;

  tables.byte_ids.fill(kNoToken);
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(text, byte_alphabet()[byte]);
    if (const auto it = ids.find(text); it != ids.end()) tables.byte_ids[byte] = it->second;
  }
  if (spec_.ignore_merges) {
    for (std::size_t i = 0; i < pieces_.size(); ++i)
      if (!pieces_[i].empty()) tables.whole.try_emplace(pieces_[i], static_cast<TokenId>(i));
    for (const AddedToken& token : spec_.added_tokens) tables.whole.erase(token.content);
  }

  tables.merges.reserve(spec_.merges.size());
  for (std::size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const std::string& line = spec_.merges[rank];
    const auto id_of = [&](const std::string& text) {
      const auto it = ids.find(text);
      if (it == ids.end())
        throw ModelFileError({.file = spec_.source, .item = "merge " + std::to_string(rank)},
                             "two tokens that make a third", "'" + line + "'");
      return it->second;
    };
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string left = line.substr(0, space), right = line.substr(std::min(space + 1, line.size()));
    tables.merges.insert_or_assign(pair_key(id_of(left), id_of(right)),
                                   Merge{static_cast<std::int32_t>(rank), id_of(left + right)});
  }
}

// One text on its way to ids.
struct Tokenizer::Encoding {
  Encoding(const Tokenizer& owner, bool parse)
      : tokenizer(owner),
        tables(*owner.tables_),
        parse_special(parse),
        word(tables.word),
        spaces(tables.spaces) {
    for (const Regex& pattern : tables.patterns) patterns.emplace_back(pattern);
  }

  // Any bytes.
  void text(std::string_view bytes) {
    for (std::size_t begin = 0; begin < bytes.size();) {
      std::size_t end = begin;
      const bool valid = utf8_unit(bytes, begin).valid;
      while (end < bytes.size()) {
        const Utf8Unit unit = utf8_unit(bytes, end);
        if (unit.valid != valid) break;
        end += unit.num_bytes;
      }
      const std::string_view run = bytes.substr(begin, end - begin);
      if (valid)
        cut_added_tokens(run, tables.raw_tokens, [&](std::string_view rest) {
          cut_added_tokens(rest, tables.normalized_tokens,
                           [&](std::string_view plain) { pre_tokenize(plain, 0); });
        });
      else
        piece(run);
      begin = end;
    }
  }

  // From here on `text` is valid UTF-8. `rest` takes what lies between the tokens.
  template <typename Rest>
  void cut_added_tokens(std::string_view text, const AddedTokenSet& set, Rest rest) {
    std::size_t done = 0;
    for (std::size_t start = 0; const auto match = set.find(text, start);) {
      start = match->end;
      const AddedToken& token = *match->token;
      if (token.special && !parse_special) continue;
      if (token.single_word && (word_ends_at(text, match->begin) || word_starts_at(text, match->end)))
        continue;
      const std::size_t begin = token.lstrip ? skip_spaces_back(text, match->begin, done) : match->begin;
      if (token.rstrip) start = skip_spaces(text, match->end);
      if (begin > done) rest(text.substr(done, begin - done));
      ids.push_back(token.id);
      done = start;
    }
    if (done < text.size()) rest(text.substr(done));
  }

  bool word_starts_at(std::string_view text, std::size_t at) {
    return at < text.size() && word.find(text.substr(0, at + utf8_unit(text, at).num_bytes), at);
  }
  bool word_ends_at(std::string_view text, std::size_t at) {
    return at > 0 && word_starts_at(text.substr(0, at), character_before(text, at));
  }
  static std::size_t character_before(std::string_view text, std::size_t at) {
    do --at;
    while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
    return at;
  }
  std::size_t skip_spaces(std::string_view text, std::size_t at) {
    if (at == text.size()) return at;
    const auto match = spaces.find(text, at);
    return match ? match->end : at;
  }
  std::size_t skip_spaces_back(std::string_view text, std::size_t at, std::size_t floor) {
    while (at > floor) {
      const std::size_t before = character_before(text, at);
      if (skip_spaces(text.substr(0, at), before) == before) break;
      at = before;
    }
    return at;
  }

  // Cuts by pattern `level` and those after it.
  void pre_tokenize(std::string_view text, std::size_t level) {
    if (level == patterns.size()) return piece(text);
    std::size_t done = 0;
    while (done < text.size()) {
      const auto match = patterns[level].find(text, done);
      const std::size_t begin = match ? match->begin : text.size();
      if (begin > done) pre_tokenize(text.substr(done, begin - done), level + 1);
      if (!match) return;
      pre_tokenize(text.substr(begin, match->end - begin), level + 1);
      done = match->end;
    }
  }

  // A piece met before in this text has its ids already.
  void piece(std::string_view bytes) {
    const auto [known, is_new] = seen.try_emplace(bytes, Range{ids.size(), 0});
    if (!is_new) {
      for (std::size_t i = 0; i < known->second.size; ++i) ids.push_back(ids[known->second.begin + i]);
      return;
    }
    if (const auto whole = tables.whole.find(bytes); whole != tables.whole.end())
      ids.push_back(whole->second);
    else
      merge(bytes);
    known->second.size = ids.size() - known->second.begin;
  }

  void merge(std::string_view bytes);

  struct Range {
    std::size_t begin, size;
  };

  const Tokenizer& tokenizer;
  const Tables& tables;
  const bool parse_special;
  std::vector<Regex::Matcher> patterns;
  Regex::Matcher word, spaces;
  std::unordered_map<std::string_view, Range> seen;  // pieces to ranges of `ids`
  std::vector<TokenId> ids;
};

// The best merge next, the leftmost of equals: a linked list of symbols, a heap of candidate pairs, and
// candidates that an earlier merge made stale are skipped when they surface.
void Tokenizer::Encoding::merge(std::string_view bytes) {
  struct Symbol {
    TokenId id;
    std::int32_t previous, next;  // -1: none
  };
  struct Candidate {
    std::int32_t rank, at;
    TokenId left, right, merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  std::vector<Symbol> symbols;
  symbols.reserve(bytes.size());
  for (const char byte : bytes) {
    const TokenId known = tables.byte_ids[static_cast<unsigned char>(byte)];
    const TokenId id = known != kNoToken ? known : tokenizer.spec_.unk_id;
    const auto size = static_cast<std::int32_t>(symbols.size());
    if (id != kNoToken) symbols.push_back({id, size - 1, size + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::priority_queue<Candidate> candidates;
  const auto consider = [&](std::int32_t at) {
    const Symbol& left = symbols[static_cast<std::size_t>(at)];
    if (left.next < 0) return;
    const TokenId right = symbols[static_cast<std::size_t>(left.next)].id;
    const auto it = tables.merges.find(pair_key(left.id, right));
    if (it != tables.merges.end()) candidates.push({it->second.rank, at, left.id, right, it->second.id});
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<std::int32_t>(i));
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.at)];
    if (left.id != best.left || left.next < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.merged;
    left.next = right.next;
    right.id = kNoToken;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.at;
    if (left.previous >= 0) consider(left.previous);
    consider(best.at);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next)
    ids.push_back(symbols[static_cast<std::size_t>(i)].id);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > kMaxTextBytes)
    throw std::length_error("a text of " + std::to_string(text.size()) + " bytes is over the limit of " +
                            std::to_string(kMaxTextBytes));
  Encoding encoding(*this, options.parse_special);
  if (options.add_special && spec_.add_bos && spec_.bos_id != kNoToken) encoding.ids.push_back(spec_.bos_id);
  encoding.text(text);
  if (options.add_special && spec_.add_eos && spec_.eos_id != kNoToken) encoding.ids.push_back(spec_.eos_id);
  return std::move(encoding.ids);
}

std::string_view Tokenizer::piece(TokenId id) const {
  return id >= 0 && id < num_tokens() ? std::string_view(pieces_[static_cast<std::size_t>(id)]) : "";
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (TokenId id : ids)
    if (!skip_special || !is_special(id)) bytes += piece(id);
  return to_valid_utf8(bytes);
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < num_tokens() && special_[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  return std::ranges::binary_search(spec_.end_of_generation_ids, id);
}

}  // namespace redline
