#include "engine/tokenizer/vocabulary.h"

namespace redline {

void Vocabulary::read_byte_ids(const TokenizerSpec& spec) {
  byte_ids_.fill(kNoToken);
  for (std::size_t i = spec.tokens.size(); i-- > 0;)
    if (const int byte = byte_of_name(spec.tokens[i]); byte >= 0)
      byte_ids_[static_cast<std::size_t>(byte)] = static_cast<TokenId>(i);
  has_byte_ids_ = true;
}

int byte_of_name(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const std::size_t high = kDigits.find(text[3]), low = kDigits.find(text[4]);
  return high == std::string_view::npos || low == std::string_view::npos ? -1
                                                                         : static_cast<int>(high * 16 + low);
}

}  // namespace redline
