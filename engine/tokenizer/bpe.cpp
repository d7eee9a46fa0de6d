// Byte-pair encoding: by ranked merges (of bytes or of characters), and SentencePiece's by scores.
#include <array>
#include <unordered_map>

#include "engine/model_file_error.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/merge_symbols.h"
#include "engine/tokenizer/token_model.h"
#include "engine/tokenizer/vocabulary.h"
#include "engine/utf8.h"

namespace redline {
namespace {

class RankedBpe final : public TokenModel {
 public:
  explicit RankedBpe(const TokenizerSpec& spec)
      : vocabulary_(spec, [](std::size_t) { return true; }),
        byte_level_(spec.byte_level),
        unk_id_(spec.unk_id) {
    for (std::size_t i = 0; i < spec.tokens.size(); ++i)
      is_text_.push_back(kind_of(spec, i) != TokenKind::kControl && kind_of(spec, i) != TokenKind::kUnknown);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::string text;
      append_utf8(text, byte_alphabet()[byte]);
      byte_ids_[byte] = vocabulary_.find(text);
    }
    if (spec.ignore_merges) read_whole_pieces(spec);
    read_merges(spec);
  }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    if (const auto whole = whole_.find(piece); whole != whole_.end()) return ids.push_back(whole->second);
    std::vector<Symbol> symbols;
    const auto append = [&](TokenId id) {
      const auto at = static_cast<std::int32_t>(symbols.size());
      symbols.push_back({id, at, at + 1});
    };
    byte_level_ ? read_bytes(piece, append) : read_characters(piece, append);
    merge_symbols(symbols, [this](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const auto it = merges_.find(pair_key(left.id, right.id));
      return it == merges_.end() ? std::nullopt : std::optional(it->second);
    });
    for (const Symbol& symbol : symbols) ids.push_back(symbol.id);
  }

 private:
  static std::uint64_t pair_key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }

  template <typename Append>
  void read_bytes(std::string_view piece, Append append) const {
    for (const char byte : piece) {
      const TokenId known = byte_ids_[static_cast<unsigned char>(byte)];
      if (const TokenId id = known != kNoToken ? known : unk_id_; id != kNoToken) append(id);
    }
  }

  template <typename Append>
  void read_characters(std::string_view piece, Append append) const {
    bool after_unk = false;
    for (std::size_t at = 0; at < piece.size();) {
      const std::string_view character = piece.substr(at, utf8_unit(piece, at).num_bytes);
      at += character.size();
      const TokenId id = vocabulary_.find(character);
      if (id != kNoToken && is_text_[static_cast<std::size_t>(id)]) {
        append(id);
        after_unk = false;
      } else {
        vocabulary_.fall_back(character, after_unk, append);
      }
    }
  }

  void read_whole_pieces(const TokenizerSpec& spec) {
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
      if (spec.tokens[i].empty() || !is_text_[i]) continue;
      const auto bytes = byte_level_ ? bytes_from_alphabet(spec.tokens[i]) : std::nullopt;
      whole_.try_emplace(bytes.value_or(spec.tokens[i]), static_cast<TokenId>(i));
    }
  }

  void read_merges(const TokenizerSpec& spec) {
    merges_.reserve(spec.merges.size());
    std::string joined;
    for (std::size_t rank = 0; rank < spec.merges.size(); ++rank)
      if (!read_merge(spec.merges[rank], static_cast<double>(rank), joined))
        throw ModelFileError({.file = spec.source, .item = "merge " + std::to_string(rank)},
                             "two tokens that make a third", "'" + spec.merges[rank] + "'");
  }

  // Tokens may hold spaces themselves: the one between the two is that which leaves tokens on both sides.
  bool read_merge(std::string_view line, double rank, std::string& joined) {
    for (std::size_t space = line.find(' ', 1); space != std::string_view::npos;
         space = line.find(' ', space + 1)) {
      const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
      const TokenId left_id = vocabulary_.find(left), right_id = vocabulary_.find(right);
      if (left_id == kNoToken || right_id == kNoToken) continue;
      const TokenId merged = vocabulary_.find(joined.assign(left).append(right));
      if (merged == kNoToken) continue;
      merges_.insert_or_assign(pair_key(left_id, right_id), Merge{rank, merged});
      return true;
    }
    return false;
  }

  Vocabulary vocabulary_;
  bool byte_level_;
  TokenId unk_id_;
  std::vector<bool> is_text_;  // by id
  std::array<TokenId, 256> byte_ids_;
  boost::unordered_flat_map<std::uint64_t, Merge> merges_;  // by pair_key
  TextMap<TokenId> whole_;                                  // only where merges may be ignored
};

class ScoredBpe final : public TokenModel {
 public:
  explicit ScoredBpe(const TokenizerSpec& spec)
      : vocabulary_(spec, [&spec](std::size_t id) { return is_text(kind_of(spec, id)); }),
        scores_(spec.scores) {
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
      unused_.push_back(kind_of(spec, i) == TokenKind::kUnused);
      if (is_text(kind_of(spec, i))) longest_ = std::max(longest_, spec.tokens[i].size());
    }
  }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    std::vector<Symbol> symbols;
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t end = at + utf8_unit(piece, at).num_bytes;
      symbols.push_back({vocabulary_.find(piece.substr(at, end - at)), static_cast<std::int32_t>(at),
                         static_cast<std::int32_t>(end)});
      at = end;
    }
    Halves halves;
    merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const std::string_view text = text_of(piece, {0, left.begin, right.end});
      const TokenId id = text.size() <= longest_ ? vocabulary_.find(text) : kNoToken;
      if (id == kNoToken) return std::nullopt;
      if (is_unused(id)) halves.insert_or_assign(text, std::pair(left, right));
      return Merge{-scores_[static_cast<std::size_t>(id)], id};
    });
    bool after_unk = false;
    for (const Symbol& symbol : symbols) append(piece, symbol, halves, after_unk, ids);
  }

 private:
  using Halves = std::unordered_map<std::string_view, std::pair<Symbol, Symbol>>;

  static bool is_text(TokenKind kind) {
    return kind == TokenKind::kNormal || kind == TokenKind::kUserDefined || kind == TokenKind::kUnused;
  }
  static std::string_view text_of(std::string_view piece, const Symbol& symbol) {
    return piece.substr(static_cast<std::size_t>(symbol.begin),
                        static_cast<std::size_t>(symbol.end - symbol.begin));
  }
  bool is_unused(TokenId id) const { return id != kNoToken && unused_[static_cast<std::size_t>(id)]; }

  // Unused tokens serve as steps to longer ones; what stays one falls apart again.
  void append(std::string_view piece, const Symbol& symbol, const Halves& halves, bool& after_unk,
              std::vector<TokenId>& ids) const {
    const std::string_view text = text_of(piece, symbol);
    if (is_unused(symbol.id))
      if (const auto it = halves.find(text); it != halves.end()) {
        append(piece, it->second.first, halves, after_unk, ids);
        return append(piece, it->second.second, halves, after_unk, ids);
      }
    if (symbol.id == kNoToken)
      return vocabulary_.fall_back(text, after_unk, [&](TokenId id) { ids.push_back(id); });
    after_unk = false;
    ids.push_back(symbol.id);
  }

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  std::vector<bool> unused_;
  std::size_t longest_ = 0;  // bytes
};

}  // namespace

std::unique_ptr<const TokenModel> make_ranked_bpe(const TokenizerSpec& spec) {
  return std::make_unique<RankedBpe>(spec);
}

std::unique_ptr<const TokenModel> make_scored_bpe(const TokenizerSpec& spec) {
  return std::make_unique<ScoredBpe>(spec);
}

}  // namespace redline
