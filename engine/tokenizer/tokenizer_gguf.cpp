#include "engine/tokenizer/tokenizer_gguf.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "engine/model_file_error.h"
#include "engine/tokenizer/gguf_pre_tokenizers.h"
#include "engine/tokenizer/sentencepiece_file.h"

namespace redline {
namespace {

constexpr std::size_t kMaxTokens = 1 << 24;

TokenId token_id(const GgufFile& gguf, const char* key, std::size_t num_tokens) {
  const auto id = gguf.find_int(key);
  if (!id) return kNoToken;
  if (*id == -1 || *id == 0xffffffff) return kNoToken;  // how writers say that there is none
  if (*id < 0 || *id >= static_cast<std::int64_t>(num_tokens))
    gguf.fail_key(key, "a token below " + std::to_string(num_tokens), std::to_string(*id));
  return static_cast<TokenId>(*id);
}

void read_vocabulary(const GgufFile& gguf, TokenizerSpec& spec) {
  auto tokens = gguf.find_strings("tokenizer.ggml.tokens");
  if (!tokens || tokens->empty() || tokens->size() > kMaxTokens)
    gguf.fail_key("tokenizer.ggml.tokens", "1 to 2^24 tokens",
                  tokens ? std::to_string(tokens->size()) : "none");
  spec.tokens = std::move(*tokens);
  const auto types = gguf.find_ints("tokenizer.ggml.token_type").value_or(std::vector<std::int64_t>());
  if (!types.empty() && types.size() != spec.tokens.size())
    gguf.fail_key("tokenizer.ggml.token_type", std::to_string(spec.tokens.size()) + " types",
                  std::to_string(types.size()));
  for (const std::int64_t type : types) {
    const bool known = type >= 1 && type <= 6;
    spec.kinds.push_back(known ? static_cast<TokenKind>(type) : TokenKind::kNormal);
  }
}

void read_merges(const GgufFile& gguf, TokenizerSpec& spec) {
  auto merges = gguf.find_strings("tokenizer.ggml.merges");
  if (!merges) gguf.fail_key("tokenizer.ggml.merges", "merges", "none");
  spec.merges = std::move(*merges);
}

void add_tokens_of_kind(TokenKind kind, TokenizerSpec& spec) {
  for (std::size_t id = 0; id < spec.kinds.size(); ++id)
    if (spec.kinds[id] == kind)
      spec.added_tokens.push_back({.id = static_cast<TokenId>(id),
                                   .content = spec.tokens[id],
                                   .special = kind != TokenKind::kUserDefined});
}

void read_byte_level_bpe(const GgufFile& gguf, TokenizerSpec& spec) {
  const auto pre = gguf.find_string("tokenizer.ggml.pre").value_or("default");
  if (!set_pre_tokenizer(spec, pre))
    gguf.fail_key("tokenizer.ggml.pre", "a name that docs/models.md lists", printable(pre));
  read_merges(gguf, spec);
  spec.byte_level = true;
  spec.decoder = {DecodeByteLevel{}};
  for (const TokenKind kind : {TokenKind::kControl, TokenKind::kUnknown, TokenKind::kUserDefined})
    add_tokens_of_kind(kind, spec);
  std::ranges::sort(spec.added_tokens, {}, &AddedToken::id);
  // Merges may go through them, and unknown_token_id names a token that byte-level BPE never makes.
  spec.kinds.clear();
}

void read_scores(const GgufFile& gguf, TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.scores";
  spec.scores = gguf.find_floats(kKey).value_or(std::vector<double>());
  if (spec.scores.size() != spec.tokens.size())
    gguf.fail_key(kKey, std::to_string(spec.tokens.size()) + " scores", std::to_string(spec.scores.size()));
  for (const double score : spec.scores)
    if (!std::isfinite(score)) gguf.fail_key(kKey, "finite scores", std::to_string(score));
}

// Without types, as the first files were written, the special tokens are known by their ids.
void guess_kinds(const GgufFile& gguf, TokenizerSpec& spec) {
  if (!spec.kinds.empty()) return;
  spec.kinds.assign(spec.tokens.size(), TokenKind::kNormal);
  for (std::size_t i = 0; i < spec.tokens.size(); ++i)
    if (spec.tokens[i].size() == 6 && spec.tokens[i].starts_with("<0x")) spec.kinds[i] = TokenKind::kByte;
  const auto mark = [&](const char* key, TokenKind kind) {
    if (const TokenId id = token_id(gguf, key, spec.tokens.size()); id != kNoToken)
      spec.kinds[static_cast<std::size_t>(id)] = kind;
  };
  mark("tokenizer.ggml.bos_token_id", TokenKind::kControl);
  mark("tokenizer.ggml.eos_token_id", TokenKind::kControl);
  mark("tokenizer.ggml.unknown_token_id", TokenKind::kUnknown);
}

SentencePieceNormalizer read_normalizer(const GgufFile& gguf) {
  SentencePieceNormalizer rules;
  rules.add_dummy_prefix = gguf.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
  rules.remove_extra_whitespaces = gguf.find_bool("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  for (const std::int64_t byte :
       gguf.find_ints("tokenizer.ggml.precompiled_charsmap").value_or(std::vector<std::int64_t>()))
    rules.charsmap += static_cast<char>(byte);
  return rules;
}

// Phi-3's tokens for turns take the white space after them along; GGUF has no key for it, only the model's
// name.
void strip_after_turns(const GgufFile& gguf, TokenizerSpec& spec) {
  std::string name = gguf.find_string("general.name").value_or("");
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  for (AddedToken& token : spec.added_tokens)
    token.rstrip = token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
}

void read_sentencepiece(const GgufFile& gguf, TokenModelKind model, TokenizerSpec& spec) {
  spec.model = model;
  spec.byte_level = false;
  spec.single_precision = true;
  read_scores(gguf, spec);
  guess_kinds(gguf, spec);
  spec.unk_id = token_id(gguf, "tokenizer.ggml.unknown_token_id", spec.tokens.size());
  SentencePieceNormalizer rules = read_normalizer(gguf);
  spec.leading_strip.num_spaces = rules.add_dummy_prefix ? 1 : 0;
  spec.normalizer = {std::move(rules)};
  set_sentencepiece_rules(spec);
  add_tokens_of_kind(TokenKind::kUserDefined, spec);
  strip_after_turns(gguf, spec);
}

void read_character_bpe(const GgufFile& gguf, TokenizerSpec& spec) {
  spec.byte_level = false;
  read_merges(gguf, spec);
  spec.unk_id = token_id(gguf, "tokenizer.ggml.unknown_token_id", spec.tokens.size());
  spec.normalizer = {Replace{" ", std::string(kSpaceSymbol)}};
  set_sentencepiece_rules(spec);
  add_tokens_of_kind(TokenKind::kUserDefined, spec);
}

}  // namespace

TokenizerSpec gguf_tokenizer_spec(const GgufFile& gguf) {
  TokenizerSpec spec;
  spec.source = gguf.file().path();
  const auto model = gguf.find_string("tokenizer.ggml.model").value_or("");
  read_vocabulary(gguf, spec);
  const auto id_of = [&](const char* key) { return token_id(gguf, key, spec.tokens.size()); };
  spec.bos_id = id_of("tokenizer.ggml.bos_token_id");
  spec.eos_id = id_of("tokenizer.ggml.eos_token_id");
  spec.pad_id = id_of("tokenizer.ggml.padding_token_id");
  bool add_bos = false, add_eos = false;  // where the file does not say
  if (model == "gpt2") {
    read_byte_level_bpe(gguf, spec);
    add_bos = pre_tokenizer_adds_bos(gguf.find_string("tokenizer.ggml.pre").value_or("default"));
  } else if (model == "llama") {
    read_sentencepiece(gguf, TokenModelKind::kScoredBpe, spec);
    add_bos = true;
  } else if (model == "t5") {
    read_sentencepiece(gguf, TokenModelKind::kUnigram, spec);
    add_eos = true;
  } else if (model == "gemma4") {
    read_character_bpe(gguf, spec);
    add_bos = true;
  } else {
    gguf.fail_key("tokenizer.ggml.model", "gpt2, llama, t5 or gemma4",
                  model.empty() ? "nothing" : printable(model));
  }
  if (gguf.find_bool("tokenizer.ggml.add_bos_token").value_or(add_bos) && spec.bos_id != kNoToken)
    spec.prefix_ids = {spec.bos_id};
  if (gguf.find_bool("tokenizer.ggml.add_eos_token").value_or(add_eos) && spec.eos_id != kNoToken)
    spec.suffix_ids = {spec.eos_id};
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (const TokenId id = id_of(key); id != kNoToken) spec.end_of_generation_ids.push_back(id);
  spec.chat_template = gguf.find_string("tokenizer.chat_template").value_or("");
  add_end_of_generation_ids(spec);
  return spec;
}

}  // namespace redline
