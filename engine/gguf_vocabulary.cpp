#include "engine/gguf_vocabulary.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/file_tensor.h"
#include "engine/model_file_error.h"
#include "engine/tokenizer/gguf_pre_tokenizers.h"

namespace redline {
namespace {

[[noreturn]] void fail(const TokenizerSpec& spec, const char* what, const std::string& found) {
  throw ModelFileError({.file = spec.source, .item = what}, "one that GGUF has words for", found);
}

/// A vocabulary as GGUF holds it.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> kinds;  // TokenKind
  std::vector<float> scores;        // of SentencePiece's models
};

void set_kind(Vocabulary& vocabulary, TokenId id, TokenKind kind) {
  vocabulary.kinds[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(kind);
}

// Added tokens have kinds of their own; ids that do not exist, and those up to `size`, are unused.
Vocabulary read_tokens(const TokenizerSpec& spec, std::int64_t size) {
  Vocabulary vocabulary;
  vocabulary.tokens = spec.tokens;
  vocabulary.kinds.assign(spec.tokens.size(), static_cast<std::int32_t>(TokenKind::kNormal));
  for (const AddedToken& token : spec.added_tokens) {
    // rstrip has no word either, but readers know the models that use it by their names.
    if (token.lstrip || token.single_word)
      fail(spec, "added token", printable(token.content) + " with lstrip or single_word");
    set_kind(vocabulary, token.id, token.special ? TokenKind::kControl : TokenKind::kUserDefined);
  }
  vocabulary.tokens.resize(std::max(vocabulary.tokens.size(), static_cast<std::size_t>(size)));
  vocabulary.kinds.resize(vocabulary.tokens.size());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.tokens[id].empty()) continue;
    vocabulary.tokens[id] = "[PAD" + std::to_string(id) + "]";  // names must differ
    vocabulary.kinds[id] = static_cast<std::int32_t>(TokenKind::kUnused);
  }
  return vocabulary;
}

void add_tokens(GgufOutput& out, const char* model, const Vocabulary& vocabulary) {
  out.add_string("tokenizer.ggml.model", model);
  out.add_strings("tokenizer.ggml.tokens", vocabulary.tokens);
  out.add_ints("tokenizer.ggml.token_type", vocabulary.kinds);
  if (!vocabulary.scores.empty()) out.add_floats("tokenizer.ggml.scores", vocabulary.scores);
}

void add_byte_level_bpe(GgufOutput& out, const TokenizerSpec& spec, std::int64_t size) {
  const std::string pre = pre_tokenizer_name(spec);
  if (pre.empty()) {
    const Split* split =
        spec.pre_tokenizer.empty() ? nullptr : std::get_if<Split>(&spec.pre_tokenizer.front());
    fail(spec, "pre-tokenizer", split ? split->pattern : "another");
  }
  add_tokens(out, "gpt2", read_tokens(spec, size));
  out.add_string("tokenizer.ggml.pre", pre);
  out.add_strings("tokenizer.ggml.merges", spec.merges);
}

// Of each token that merges make, minus the rank of its first merge. SentencePiece merges whatever neighbours
// make a token, the best score first: that is the same if every such pair has a merge, and tokens' merges do
// not interleave.
std::vector<float> scores_of_merges(const TokenizerSpec& spec) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < spec.tokens.size(); ++id)
    if (!spec.tokens[id].empty()) ids.emplace(spec.tokens[id], id);
  for (const AddedToken& token : spec.added_tokens) ids.erase(token.content);
  std::vector<std::size_t> num_merges(spec.tokens.size());
  std::vector<float> scores(spec.tokens.size(), 0.0F);
  std::string text;
  std::size_t last = spec.tokens.size();
  for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const std::string& merge = spec.merges[rank];
    const auto space = merge.find(' ', 1);
    if (space == std::string::npos) fail(spec, "merges", printable(merge));
    text = merge.substr(0, space) + merge.substr(space + 1);
    const auto made = ids.find(text);
    if (made == ids.end()) fail(spec, "merges", printable(merge) + ", which makes no token");
    const std::size_t id = made->second;
    if (id != last && num_merges[id] > 0)
      fail(spec, "merges", "merges that follow no score at " + printable(merge));
    if (num_merges[id]++ == 0) scores[id] = -static_cast<float>(rank + 1);
    last = id;
  }
  // SentencePiece begins with characters, be they tokens or not.
  const auto is_part = [&](std::string_view part) {
    const auto is_inner = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
    return ids.contains(part) || (!is_inner(part.front()) && std::ranges::all_of(part.substr(1), is_inner));
  };
  for (const auto& [token, id] : ids) {
    std::size_t num_pairs = 0;
    for (std::size_t cut = 1; cut < token.size(); ++cut)
      num_pairs += is_part(token.substr(0, cut)) && is_part(token.substr(cut));
    const bool byte = token.size() == 6 && token.starts_with("<0x");
    if (num_pairs != num_merges[id] && !byte)
      fail(spec, "merges", "not every pair that makes " + printable(token));
  }
  return scores;
}

void add_sentencepiece(GgufOutput& out, const TokenizerSpec& spec, std::int64_t size) {
  Vocabulary vocabulary = read_tokens(spec, size);
  SentencePieceNormalizer rules;
  if (spec.model == TokenModelKind::kBpe) {
    const Replace spaces{quoted_pattern(" "), std::string(kSpaceSymbol)};
    const std::vector<NormalizerStep> without_prefix{spaces},
        with_prefix{Prepend{std::string(kSpaceSymbol)}, spaces};
    if ((spec.normalizer != without_prefix && spec.normalizer != with_prefix) || !spec.pre_tokenizer.empty())
      fail(spec, "normalizer", "another than SentencePiece's spaces");
    for (const AddedToken& token : spec.added_tokens)
      if (token.normalized) fail(spec, "added token", printable(token.content) + " in the normalised text");
    rules.add_dummy_prefix = spec.normalizer == with_prefix;
    vocabulary.scores = scores_of_merges(spec);
    for (std::size_t id = 0; id < spec.tokens.size(); ++id)
      if (spec.byte_fallback && spec.tokens[id].size() == 6 && spec.tokens[id].starts_with("<0x"))
        set_kind(vocabulary, static_cast<TokenId>(id), TokenKind::kByte);
    if (spec.unk_id != kNoToken) set_kind(vocabulary, spec.unk_id, TokenKind::kUnknown);
  } else {
    const auto* own = spec.normalizer.size() == 1
                          ? std::get_if<SentencePieceNormalizer>(&spec.normalizer.front())
                          : nullptr;
    if (!own || !spec.pre_tokenizer.empty() || own->whitespace_as_suffix || !own->escape_whitespaces)
      fail(spec, "normalizer", "another than SentencePiece's usual one");
    // Readers cut them out of the text before it is normalised, SentencePiece after.
    if (const auto user = std::ranges::find(spec.kinds, TokenKind::kUserDefined); user != spec.kinds.end())
      fail(spec, "user-defined token",
           printable(spec.tokens[static_cast<std::size_t>(user - spec.kinds.begin())]));
    rules = *own;
    vocabulary.scores.assign(spec.scores.begin(), spec.scores.end());
    for (std::size_t id = 0; id < spec.kinds.size(); ++id)
      set_kind(vocabulary, static_cast<TokenId>(id), spec.kinds[id]);
  }
  vocabulary.scores.resize(vocabulary.tokens.size(), -1e9F);
  add_tokens(out, spec.model == TokenModelKind::kUnigram ? "t5" : "llama", vocabulary);
  out.add_bool("tokenizer.ggml.add_space_prefix", rules.add_dummy_prefix);
  out.add_bool("tokenizer.ggml.remove_extra_whitespaces", rules.remove_extra_whitespaces);
  if (!rules.charsmap.empty()) out.add_bytes("tokenizer.ggml.precompiled_charsmap", rules.charsmap);
  if (spec.unk_id != kNoToken) out.add_u32("tokenizer.ggml.unknown_token_id", spec.unk_id);
}

}  // namespace

void add_vocabulary(GgufOutput& out, const TokenizerSpec& spec, std::int64_t vocab_size) {
  if (spec.byte_level)
    add_byte_level_bpe(out, spec, vocab_size);
  else
    add_sentencepiece(out, spec, vocab_size);
  const auto add_id = [&](const char* key, TokenId id) {
    if (id != kNoToken) out.add_u32(key, id);
  };
  add_id("tokenizer.ggml.bos_token_id", spec.bos_id);
  add_id("tokenizer.ggml.eos_token_id", spec.eos_id);
  add_id("tokenizer.ggml.padding_token_id", spec.pad_id);
  for (const TokenId id : spec.end_of_generation_ids)
    if (id != spec.eos_id) {
      add_id("tokenizer.ggml.eot_token_id", id);  // there is one more key; readers know the others by name
      break;
    }
  out.add_bool("tokenizer.ggml.add_bos_token", !spec.prefix_ids.empty());
  out.add_bool("tokenizer.ggml.add_eos_token", !spec.suffix_ids.empty());
  if (!spec.chat_template.empty()) out.add_string("tokenizer.chat_template", spec.chat_template);
}

}  // namespace redline
