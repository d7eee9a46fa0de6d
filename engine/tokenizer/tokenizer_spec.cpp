#include "engine/tokenizer/tokenizer_spec.h"

#include <algorithm>
#include <array>

namespace redline {
namespace {

// Published by the models' authors in tokenizer.json; gpt2's is the one built into Hugging Face's ByteLevel.
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizer {
  std::string_view name;
  std::array<const char*, 2> patterns;  // the second may be null
  bool ignore_merges;
  bool add_bos;
};

constexpr PreTokenizer kPreTokenizers[] = {
    {"default", {kGpt2, nullptr}, false, false},   {"gpt-2", {kGpt2, nullptr}, false, false},
    {"smollm", {kDigit, kGpt2}, false, false},     {"starcoder", {kDigit, kGpt2}, false, false},
    {"llama-bpe", {kLlama3, nullptr}, true, true}, {"llama3", {kLlama3, nullptr}, true, true},
    {"qwen2", {kQwen2, nullptr}, false, false},
};

constexpr std::string_view kEndNames[] = {
    "<|im_end|>", "<|eot_id|>",      "<|eom_id|>",    "<|end_of_text|>", "<|endoftext|>",
    "<|end|>",    "<|end_of_turn|>", "<end_of_turn>", "<|eot|>",         "<EOT>",
    "</s>",       "<|return|>",      "<|call|>",      "<|endofturn|>",   "<|EOT|>"};

}  // namespace

bool set_pre_tokenizer(TokenizerSpec& spec, std::string_view name) {
  const auto* row = std::ranges::find(kPreTokenizers, name, &PreTokenizer::name);
  if (row == std::end(kPreTokenizers)) return false;
  spec.split_patterns.clear();
  for (const char* pattern : row->patterns)
    if (pattern != nullptr) spec.split_patterns.emplace_back(pattern);
  spec.ignore_merges = row->ignore_merges;
  spec.add_bos = row->add_bos;
  return true;
}

std::string pre_tokenizer_name(const TokenizerSpec& spec) {
  TokenizerSpec known;
  for (const PreTokenizer& row : kPreTokenizers)
    if (set_pre_tokenizer(known, row.name) && known.split_patterns == spec.split_patterns &&
        known.ignore_merges == spec.ignore_merges)
      return std::string(row.name);
  return "";
}

std::string known_pre_tokenizers() {
  std::string names;
  for (const PreTokenizer& row : kPreTokenizers) (names += names.empty() ? "" : ", ") += row.name;
  return names;
}

void add_end_of_generation_ids(TokenizerSpec& spec) {
  std::vector<TokenId>& ids = spec.end_of_generation_ids;
  if (spec.eos_id != kNoToken) ids.push_back(spec.eos_id);
  for (const AddedToken& token : spec.added_tokens)
    if (std::ranges::find(kEndNames, token.content) != std::end(kEndNames)) ids.push_back(token.id);
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace redline
