#include "engine/chat_template/python_text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "engine/regex.h"
#include "engine/utf8.h"

namespace redline::jinja {
namespace {

// A character as a code point and its bytes; an invalid byte is U+FFFD.
struct Character {
  char32_t code_point;
  std::string_view bytes;
};

std::vector<Character> decode(std::string_view text) {
  std::vector<Character> characters;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = utf8_unit(text, at);
    characters.push_back({unit.valid ? unit.code_point : U'\uFFFD', text.substr(at, unit.num_bytes)});
    at += unit.num_bytes;
  }
  return characters;
}

bool is_line_end(char32_t c) {
  return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

std::string unicode_escape(const char* format, char32_t c) {
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, format, static_cast<unsigned>(c));
  return buffer;
}

bool is_printable(std::string_view character) {
  static const Regex kHidden(R"([\p{C}\p{Z}])");
  return character == " " || !Regex::Matcher(kHidden).find(character, 0);
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view strip(std::string_view text, bool left, bool right, std::optional<std::string_view> chars) {
  const std::vector<std::string_view> set = chars ? characters(*chars) : std::vector<std::string_view>();
  const auto goes = [&](std::size_t at, std::size_t size) {
    if (!chars) return is_space(utf8_unit(text, at).code_point);
    return std::ranges::find(set, text.substr(at, size)) != set.end();
  };
  while (left && !text.empty()) {
    const std::size_t size = utf8_unit(text, 0).num_bytes;
    if (!goes(0, size)) break;
    text.remove_prefix(size);
  }
  while (right && !text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && text.size() - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (utf8_unit(text, at).num_bytes != text.size() - at) at = text.size() - 1;  // a stray byte
    if (!goes(at, text.size() - at)) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

std::size_t num_characters(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) at += utf8_unit(text, at).num_bytes;
  return count;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> parts;
  for (const Character& character : decode(text)) parts.push_back(character.bytes);
  return parts;
}

std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    long limit) {
  std::vector<std::string_view> parts;
  const auto more = [&] { return limit < 0 || static_cast<long>(parts.size()) < limit; };
  if (separator) {
    for (std::size_t at; more() && (at = text.find(*separator)) != text.npos;) {
      parts.push_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    parts.push_back(text);
    return parts;
  }
  text = strip(text, true, false);
  while (!text.empty() && more()) {
    std::size_t at = 0;
    while (at < text.size() && !is_space(utf8_unit(text, at).code_point)) at += utf8_unit(text, at).num_bytes;
    parts.push_back(text.substr(0, at));
    text = strip(text.substr(at), true, false);
  }
  if (!text.empty()) parts.push_back(strip(text, false, true));
  return parts;
}

std::vector<std::string_view> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                     long limit) {
  std::vector<std::string_view> parts = split(text, separator, -1);
  if (limit < 0 || static_cast<long>(parts.size()) <= limit + 1) return parts;
  // The first parts stay together, from the text's start to the end of the last of them.
  const auto num_joined = parts.size() - static_cast<std::size_t>(limit);
  const std::string_view last = parts[num_joined - 1];
  parts.erase(parts.begin() + 1, parts.begin() + static_cast<std::ptrdiff_t>(num_joined));
  parts[0] = text.substr(0, static_cast<std::size_t>(last.data() + last.size() - text.data()));
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    std::size_t end = 0, next = 0;
    while (end < text.size()) {
      const Utf8Unit unit = utf8_unit(text, end);
      next = end + unit.num_bytes;
      if (unit.valid && is_line_end(unit.code_point)) {
        if (text.substr(end, 2) == "\r\n") ++next;
        break;
      }
      end = next;
    }
    lines.push_back(text.substr(0, keep_ends ? next : end));
    text.remove_prefix(next);
  }
  return lines;
}

std::string upper(std::string_view text) {
  static const Regex kAll("(?s).+");
  return kAll.replace(text, "\\U$0");
}

std::string lower(std::string_view text) {
  static const Regex kAll("(?s).+");
  return kAll.replace(text, "\\L$0");
}

std::string capitalize(std::string_view text) {
  static const Regex kAll("(?s)(.)(.*)");
  return kAll.replace(text, "\\U$1\\L$2");
}

std::string title(std::string_view text) {
  static const Regex kWord(R"((\p{L})(\p{L}*))");
  return kWord.replace(text, "\\U$1\\L$2\\E");
}

bool is_all(std::string_view text, std::string_view property) {
  static const std::array<std::pair<std::string_view, Regex>, 8> kProperties = {{
      {"alpha", Regex(R"(\A\p{L}+\z)")},
      {"digit", Regex(R"(\A[\p{Nd}²³¹⁰⁴-⁹₀-₉]+\z)")},
      {"decimal", Regex(R"(\A\p{Nd}+\z)")},
      {"numeric", Regex(R"(\A\p{N}+\z)")},
      {"alnum", Regex(R"(\A[\p{L}\p{N}]+\z)")},
      {"upper", Regex(R"(\A[^\p{Ll}\p{Lt}]*\p{Lu}[^\p{Ll}\p{Lt}]*\z)")},
      {"lower", Regex(R"(\A[^\p{Lu}\p{Lt}]*\p{Ll}[^\p{Lu}\p{Lt}]*\z)")},
      {"space", Regex(R"(\A[\s\x{1C}-\x{1F}]+\z)")},
  }};
  for (const auto& [name, regex] : kProperties)
    if (name == property) return !text.empty() && Regex::Matcher(regex).find(text, 0).has_value();
  return false;
}

std::string repr_quoted(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (const auto& [c, bytes] : decode(text)) {
    if (c == static_cast<char32_t>(quote) || c == '\\')
      (out += '\\') += bytes;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if ((c >= ' ' && c < 0x7F) || (c > 0x7F && is_printable(bytes)))
      out += bytes;
    else
      out += unicode_escape(c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
  }
  return out += quote;
}

std::string json_quoted(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (const auto& [c, bytes] : decode(text)) {
    constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f", kNames = "\"\\nrtbf";
    const std::size_t escape = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : kEscaped.npos;
    if (escape != kEscaped.npos)
      (out += '\\') += kNames[escape];
    else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000))
      out += unicode_escape("\\u%04x", c);
    else if (ensure_ascii && c >= 0x10000)
      out += unicode_escape("\\u%04x", 0xD800 + ((c - 0x10000) >> 10)) +
             unicode_escape("\\u%04x", 0xDC00 + ((c - 0x10000) & 0x3FF));
    else
      out += bytes;
  }
  return out += '"';
}

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace redline::jinja
