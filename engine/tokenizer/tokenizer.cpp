#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <deque>
#include <stdexcept>
#include <unordered_map>

#include "engine/model_file_error.h"
#include "engine/tokenizer/added_token_set.h"
#include "engine/tokenizer/detokenizer.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/token_bytes.h"
#include "engine/tokenizer/token_model.h"
#include "engine/utf8.h"
#include "kernels/nvtx.h"

namespace redline {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

std::unique_ptr<const TokenModel> make_model(const TokenizerSpec& spec) {
  switch (spec.model) {
    case TokenModelKind::kScoredBpe:
      return make_scored_bpe(spec);
    case TokenModelKind::kUnigram:
      return make_unigram(spec);
    case TokenModelKind::kBpe:
      break;
  }
  return make_ranked_bpe(spec);
}

}  // namespace

struct Tokenizer::Stages {
  explicit Stages(const TokenizerSpec& spec)
      : normalizer(spec.normalizer, spec.source),
        pre_tokenizer(spec.pre_tokenizer, spec.source),
        model(make_model(spec)) {
    for (const AddedToken& token : spec.added_tokens)
      if (token.normalized)
        normalized_tokens.add(token, normalizer.added_token(token.content));
      else
        raw_tokens.add(token, token.content);
    raw_tokens.seal();
    normalized_tokens.seal();
  }

  Normalizer normalizer;
  AddedTokenSet raw_tokens, normalized_tokens;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const TokenModel> model;
};

Tokenizer::~Tokenizer() = default;

Tokenizer::Tokenizer(TokenizerSpec spec) : spec_(std::move(spec)) {
  check(spec_);
  special_.resize(spec_.tokens.size());
  for (const AddedToken& token : spec_.added_tokens)
    special_[static_cast<std::size_t>(token.id)] = token.special;
  pieces_ = token_bytes(spec_);
  stages_ = std::make_unique<Stages>(spec_);
  spec_.tokens = {}, spec_.merges = {}, spec_.scores = {}, spec_.kinds = {};
}

void Tokenizer::check(const TokenizerSpec& spec) const {
  const std::string size = std::to_string(spec.tokens.size());
  const auto check_id = [&](TokenId id, const std::string& item) {
    if (id < 0 || static_cast<std::size_t>(id) >= spec.tokens.size())
      throw ModelFileError({.file = spec.source, .item = item}, "an id below " + size, std::to_string(id));
  };
  for (TokenId id : {spec.bos_id, spec.eos_id, spec.pad_id, spec.unk_id})
    if (id != kNoToken) check_id(id, "special token ids");
  for (const auto* ids : {&spec.prefix_ids, &spec.suffix_ids})
    for (const TokenId id : *ids) check_id(id, "special token ids");
  for (const AddedToken& token : spec.added_tokens) check_id(token.id, "added token '" + token.content + "'");
  if (!spec.kinds.empty() && spec.kinds.size() != spec.tokens.size())
    throw ModelFileError({.file = spec.source, .item = "token types"}, size,
                         std::to_string(spec.kinds.size()));
  if (spec.model != TokenModelKind::kBpe && spec.scores.size() != spec.tokens.size())
    throw ModelFileError({.file = spec.source, .item = "scores"}, size, std::to_string(spec.scores.size()));
}

// One text on its way to ids.
struct Tokenizer::Encoding {
  Encoding(const Stages& all_stages, bool parse)
      : stages(all_stages),
        parse_special(parse),
        pre_tokenizer(stages.pre_tokenizer, texts, [this](std::string_view bytes) { piece(bytes); }) {}

  // Any bytes.
  void text(std::string_view bytes) {
    bool after_invalid = false;
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
        valid_text(run, begin == 0, {.begins = !after_invalid, .ends = end == bytes.size()});
      else
        piece(run);
      after_invalid = !valid;
      begin = end;
    }
  }

  // From here on `text` is valid UTF-8. `edges`: whether it begins and ends where a text does.
  void valid_text(std::string_view text, bool at_start, Normalizer::Edges edges) {
    AddedTokenSet::Search(stages.raw_tokens, parse_special)
        .cut(
            text, [this](TokenId id) { ids.push_back(id); },
            [&](std::size_t begin, std::size_t end) {
              plain(text.substr(begin, end - begin), at_start && begin == 0,
                    {.begins = begin > 0 || edges.begins, .ends = end < text.size() || edges.ends});
            });
  }

  void plain(std::string_view text, bool at_start, Normalizer::Edges edges) {
    if (!stages.normalizer.empty()) text = texts.emplace_back(stages.normalizer(text, edges));
    AddedTokenSet::Search(stages.normalized_tokens, parse_special)
        .cut(
            text, [this](TokenId id) { ids.push_back(id); },
            [&](std::size_t begin, std::size_t end) {
              pre_tokenizer.cut(text.substr(begin, end - begin), at_start && begin == 0);
            });
  }

  // A piece met before in this text has its ids already.
  void piece(std::string_view bytes) {
    const auto [known, is_new] = seen.try_emplace(bytes, Range{ids.size(), 0});
    if (!is_new) {
      for (std::size_t i = 0; i < known->second.size; ++i) ids.push_back(ids[known->second.begin + i]);
      return;
    }
    stages.model->encode(bytes, ids);
    known->second.size = ids.size() - known->second.begin;
  }

  struct Range {
    std::size_t begin, size;
  };

  const Stages& stages;
  const bool parse_special;
  std::deque<std::string> texts;  // what stages wrote; pieces are views of it
  PreTokenizer::Run pre_tokenizer;
  std::unordered_map<std::string_view, Range> seen;  // pieces to ranges of `ids`
  std::vector<TokenId> ids;
};

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const NvtxRange range("tokenise");
  if (text.size() > kMaxTextBytes)
    throw std::length_error("a text of " + std::to_string(text.size()) + " bytes is over the limit of " +
                            std::to_string(kMaxTextBytes));
  Encoding encoding(*stages_, options.parse_special);
  if (options.add_special) encoding.ids = spec_.prefix_ids;
  encoding.text(text);
  if (options.add_special)
    encoding.ids.insert(encoding.ids.end(), spec_.suffix_ids.begin(), spec_.suffix_ids.end());
  return std::move(encoding.ids);
}

std::string_view Tokenizer::piece(TokenId id) const {
  return id >= 0 && id < num_tokens() ? std::string_view(pieces_[static_cast<std::size_t>(id)]) : "";
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  Detokenizer stream(*this, skip_special);
  std::string text;
  for (const TokenId id : ids) text += stream.feed(id);
  return text += stream.finish();
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < num_tokens() && special_[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  return std::ranges::binary_search(spec_.end_of_generation_ids, id);
}

}  // namespace redline
