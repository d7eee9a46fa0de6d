#include "engine/tokenizer/token_bytes.h"

#include <stdexcept>

#include "engine/model_file_error.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace redline {
namespace {

struct Decode {
  std::string text;

  void operator()(DecodeByteLevel) {
    if (auto bytes = bytes_from_alphabet(text)) text = *std::move(bytes);
  }
  void operator()(DecodeBytes) {
    if (const int byte = byte_of_name(text); byte >= 0) text = std::string(1, static_cast<char>(byte));
  }
  void operator()(const DecodeStrip& strip) {
    if (strip.content.empty()) return;
    for (std::size_t i = 0; i < strip.start && text.starts_with(strip.content); ++i)
      text.erase(0, strip.content.size());
    for (std::size_t i = 0; i < strip.stop && text.ends_with(strip.content); ++i)
      text.resize(text.size() - strip.content.size());
  }
};

}  // namespace

std::vector<std::string> token_bytes(const TokenizerSpec& spec) {
  std::vector<bool> as_is(spec.tokens.size());
  for (const AddedToken& token : spec.added_tokens)
    as_is[static_cast<std::size_t>(token.id)] = token.special || spec.byte_level;
  std::vector<std::string> bytes = spec.tokens;
  // A token that was matched in normalised text took the spaces along that the normaliser had put there.
  const Normalizer normalizer(spec.normalizer, spec.source);
  for (const AddedToken& token : spec.added_tokens)
    if (token.normalized && !as_is[static_cast<std::size_t>(token.id)])
      bytes[static_cast<std::size_t>(token.id)] = normalizer.added_token(token.content);
  for (const DecoderStep& step : spec.decoder) {
    const auto* replace = std::get_if<Replace>(&step);
    std::vector<NormalizerStep> steps;
    if (replace) steps.emplace_back(*replace);
    const Normalizer replaced(steps, spec.source);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (as_is[i] || bytes[i].empty()) continue;
      if (replace) {
        bytes[i] = replaced(bytes[i], {});
      } else {
        Decode decode{std::move(bytes[i])};
        std::visit(
            [&decode](const auto& each) {
              if constexpr (!std::is_same_v<std::decay_t<decltype(each)>, Replace>) decode(each);
            },
            step);
        bytes[i] = std::move(decode.text);
      }
    }
  }
  for (const AddedToken& token : spec.added_tokens)
    if (as_is[static_cast<std::size_t>(token.id)]) bytes[static_cast<std::size_t>(token.id)] = token.content;
  return bytes;
}

}  // namespace redline
