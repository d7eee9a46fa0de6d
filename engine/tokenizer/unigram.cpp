// The unigram model: of all ways to cut a piece into tokens, the one with the best sum of scores (Viterbi's
// algorithm), as SentencePiece's "optimized" encoder finds it.
#include <algorithm>
#include <limits>

#include "engine/tokenizer/prefix_trie.h"
#include "engine/tokenizer/token_model.h"
#include "engine/tokenizer/vocabulary.h"
#include "engine/utf8.h"

namespace redline {
namespace {

constexpr double kUnknownPenalty = 10;  // below the worst token

class Unigram final : public TokenModel {
 public:
  explicit Unigram(const TokenizerSpec& spec)
      : vocabulary_(spec, [&spec](std::size_t id) { return is_text(kind_of(spec, id)); }),
        scores_(spec.scores),
        single_precision_(spec.single_precision) {
    std::vector<PrefixTrie::Key> keys;
    double worst = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
      const TokenKind kind = kind_of(spec, i);
      if (is_text(kind)) keys.push_back({spec.tokens[i], static_cast<TokenId>(i)});
      if (kind != TokenKind::kNormal || spec.tokens[i].empty()) continue;
      worst = std::min(worst, scores_[i]);
    }
    trie_ = PrefixTrie(std::move(keys));
    unknown_score_ = rounded(worst - kUnknownPenalty);
    // User-defined tokens beat every other way to cut their text. Which of two ways with as many of them wins
    // is a matter of rounding: this score agrees with SentencePiece 0.2.
    constexpr float kUserDefinedScore = 0.1F;
    for (std::size_t i = 0; i < spec.tokens.size(); ++i)
      if (kind_of(spec, i) == TokenKind::kUserDefined) scores_[i] = kUserDefinedScore;
  }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    struct Best {  // of all ways to reach one place of the piece
      double score = 0;
      std::int32_t from = -1;  // where its last token begins; -1: not reached
      TokenId id = kNoToken;
    };
    std::vector<Best> best(piece.size() + 1);
    const auto reach = [&](std::size_t from, std::size_t to, double score, TokenId id) {
      const double total = rounded(score + best[from].score);
      if (best[to].from < 0 || total > best[to].score)
        best[to] = {total, static_cast<std::int32_t>(from), id};
    };
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t size = utf8_unit(piece, at).num_bytes;
      bool has_single = false;
      trie_.prefixes(piece.substr(at), [&](TokenId id, std::size_t length) {
        reach(at, at + length, scores_[static_cast<std::size_t>(id)], id);
        has_single = has_single || length == size;
      });
      if (!has_single) reach(at, at + size, unknown_score_, kNoToken);
      at += size;
    }
    std::vector<Symbol> path;
    for (auto end = static_cast<std::int32_t>(piece.size()); end > 0; end = path.back().begin)
      path.push_back({best[static_cast<std::size_t>(end)].id, best[static_cast<std::size_t>(end)].from, end});
    bool after_unk = false;
    for (auto symbol = path.rbegin(); symbol != path.rend(); ++symbol) {
      const std::string_view text = piece.substr(static_cast<std::size_t>(symbol->begin),
                                                 static_cast<std::size_t>(symbol->end - symbol->begin));
      if (symbol->id == kNoToken) {
        vocabulary_.fall_back(text, after_unk, [&](TokenId id) { ids.push_back(id); });
      } else {
        after_unk = false;
        ids.push_back(symbol->id);
      }
    }
  }

 private:
  struct Symbol {
    TokenId id;
    std::int32_t begin, end;
  };

  static bool is_text(TokenKind kind) {
    return kind == TokenKind::kNormal || kind == TokenKind::kUserDefined;
  }
  double rounded(double score) const { return single_precision_ ? static_cast<float>(score) : score; }

  Vocabulary vocabulary_;
  PrefixTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  bool single_precision_;
};

}  // namespace

std::unique_ptr<const TokenModel> make_unigram(const TokenizerSpec& spec) {
  return std::make_unique<Unigram>(spec);
}

}  // namespace redline
