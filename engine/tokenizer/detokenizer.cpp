#include "engine/tokenizer/detokenizer.h"

#include <algorithm>

namespace redline {

std::string Detokenizer::feed(TokenId id) {
  if (skip_special_ && tokenizer_.is_special(id) && std::ranges::find(shown_, id) == shown_.end()) return {};
  std::string_view bytes = tokenizer_.piece(id);
  if (!at_start_) return stream_.feed(bytes);
  const LeadingStrip& strip = tokenizer_.spec().leading_strip;
  if (strip.all_of_first_token) {
    at_start_ = false;
    std::string first(bytes);
    if (!tokenizer_.is_special(id)) std::erase(first, ' ');
    return stream_.feed(first);
  }
  while (num_dropped_ < strip.num_spaces && bytes.starts_with(' ')) bytes.remove_prefix(1), ++num_dropped_;
  at_start_ = num_dropped_ < strip.num_spaces && bytes.empty();
  return stream_.feed(bytes);
}

}  // namespace redline
