#include "engine/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <stdexcept>

namespace redline {
namespace {

constexpr const char* kWhiteSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Spells \s out everywhere, \S outside of [classes] (inside, PCRE2's differs at U+180E only).
std::string spell_white_space_out(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's')
        out += in_class ? kWhiteSpace : std::string("[") + kWhiteSpace + "]";
      else if (escaped == 'S' && !in_class)
        out += std::string("[^") + kWhiteSpace + "]";
      else
        (out += c) += escaped;
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string message_of(int error) {
  unsigned char text[256] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }
void Regex::Matcher::Free::operator()(pcre2_real_match_data_8* data) const { pcre2_match_data_free(data); }
void Regex::Matcher::Free::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}

Regex::Regex(const std::string& pattern) {
  const std::string spelled = spell_white_space_out(pattern);
  int error = 0;
  PCRE2_SIZE at = 0;
  // \C could match half a character.
  const std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(), options, &error,
                            &at, nullptr));
  if (!code_)
    throw std::invalid_argument("pattern '" + spelled + "', at " + std::to_string(at) + ": " +
                                message_of(error));
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // on failure matching is interpreted
}

std::string Regex::replace(std::string_view text, const char* replacement) const {
  std::string out(text.size() + 64, '\0');
  const auto substitute = [&](PCRE2_SIZE& size) {
    size = out.size();
    return pcre2_substitute(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                            PCRE2_NO_UTF_CHECK | PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_EXTENDED |
                                PCRE2_SUBSTITUTE_OVERFLOW_LENGTH,
                            nullptr, nullptr, reinterpret_cast<PCRE2_SPTR>(replacement),
                            PCRE2_ZERO_TERMINATED, reinterpret_cast<PCRE2_UCHAR*>(out.data()), &size);
  };
  PCRE2_SIZE size = 0;
  int result = substitute(size);
  if (result == PCRE2_ERROR_NOMEMORY) {
    out.resize(size);
    result = substitute(size);
  }
  if (result < 0) throw std::runtime_error("a replacement failed: " + message_of(result));
  out.resize(size);
  return out;
}

Regex::Matcher::Matcher(const Regex& regex)
    : regex_(regex),
      data_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  if (!data_ || !context_) throw std::bad_alloc();
}

std::optional<Regex::Match> Regex::Matcher::find(std::string_view text, std::size_t start, Empty empty) {
  const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(text.size() - start, 10'000'000));
  pcre2_set_match_limit(context_.get(), 1'000'000 + 16 * length);
  pcre2_set_heap_limit(context_.get(), 64 * 1024 + length);  // KiB
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                       PCRE2_NO_UTF_CHECK | (empty == Empty::kNever ? PCRE2_NOTEMPTY : 0) | options,
                       data_.get(), context_.get());
  };
  int result = match(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);  // the interpreter's stack is heap
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0)
    throw std::runtime_error("a pattern failed on a text of " + std::to_string(text.size()) +
                             " bytes at byte " + std::to_string(start) + ": " + message_of(result));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
  if (range[0] < start || range[1] < range[0])  // \K can do that
    throw std::runtime_error("a pattern matched backwards at byte " + std::to_string(start));
  return Match{range[0], range[1]};
}

}  // namespace redline
