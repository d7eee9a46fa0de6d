#include "engine/tokenizer/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "engine/utf8.h"

namespace redline {
namespace {

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

template <typename Visit>
void for_each_character(std::string_view text, Visit visit) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = utf8_unit(text, at);
    visit(unit.code_point);
    at += unit.num_bytes;
  }
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

}  // namespace

std::string unicode_normalize(std::string_view text, bool compatible, bool composed) {
  if (is_ascii(text)) return std::string(text);
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  for_each_character(text, [&](char32_t code_point) {
    constexpr int kMost = 32;  // one character decomposes into 18 at most
    utf8proc_int32_t parts[kMost];
    int boundary_class = UTF8PROC_BOUNDCLASS_START;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts, kMost,
                                               options, &boundary_class);
    characters.insert(characters.end(), parts, parts + std::clamp<utf8proc_ssize_t>(count, 0, kMost));
  });
  // Canonical order. utf8proc's own sorts by insertion: quadratic in a run of marks.
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
    begin = std::find_if_not(begin, characters.end(), is_starter);
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
  if (composed) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    const auto size = utf8proc_normalize_utf32(characters.data(),
                                               static_cast<utf8proc_ssize_t>(characters.size()), compose);
    characters.resize(static_cast<std::size_t>(std::max<utf8proc_ssize_t>(size, 0)));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : characters) append_utf8(out, static_cast<char32_t>(c));
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_character(text, [&](char32_t c) {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    if (c == 0x130) append_utf8(out, 0x307);  // the only one whose lowercase is two characters
  });
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t c) {
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    const bool is_mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                         category == UTF8PROC_CATEGORY_ME;
    if (!is_mark) append_utf8(out, c);
  });
  return out;
}

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace redline
