// GPT-2's byte-level alphabet: every byte written as one printable character, so that vocabularies are text.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "engine/utf8.h"

namespace redline {

/// The character of each byte: itself if it is printable and no space in Latin-1, else the next from U+0100
/// on.
constexpr std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
    alphabet[b] = printable ? b : next++;
  }
  return alphabet;
}

/// The bytes that `text` writes; nothing if one of its characters is outside the alphabet.
inline std::optional<std::string> bytes_from_alphabet(std::string_view text) {
  static constexpr char32_t kSize = 0x144;  // one past the largest character
  static constexpr auto kByteOf = [] {
    std::array<int, kSize> bytes{};
    bytes.fill(-1);
    for (int b = 0; b < 256; ++b) bytes[byte_alphabet()[static_cast<std::size_t>(b)]] = b;
    return bytes;
  }();
  std::string bytes;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = utf8_unit(text, at);
    if (!unit.valid || unit.code_point >= kSize || kByteOf[unit.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kByteOf[unit.code_point]);
    at += unit.num_bytes;
  }
  return bytes;
}

}  // namespace redline
