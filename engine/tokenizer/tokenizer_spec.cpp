#include "engine/tokenizer/tokenizer_spec.h"

#include <algorithm>
#include <cctype>

namespace redline {
namespace {

constexpr std::string_view kEndNames[] = {
    "<|im_end|>", "<|eot_id|>",      "<|eom_id|>",    "<|end_of_text|>", "<|endoftext|>",
    "<|end|>",    "<|end_of_turn|>", "<end_of_turn>", "<|eot|>",         "<EOT>",
    "</s>",       "<|return|>",      "<|call|>",      "<|endofturn|>",   "<|EOT|>"};

}  // namespace

std::string quoted_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

std::vector<DecoderStep> sentencepiece_decoder() {
  return {Replace{std::string(kSpaceSymbol), " "}, DecodeBytes{}};
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
