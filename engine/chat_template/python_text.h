// Python's str methods over UTF-8.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace redline::jinja {

/// str.isspace() of one character.
bool is_space(char32_t c);

/// Without the leading, trailing white space, or the characters of `chars` where given.
std::string_view strip(std::string_view text, bool left, bool right,
                       std::optional<std::string_view> chars = std::nullopt);

/// The number of code points.
std::size_t num_characters(std::string_view text);
/// The code points, each as its bytes; an invalid byte is one of its own.
std::vector<std::string_view> characters(std::string_view text);

/// str.split / rsplit on white space (no separator) or on a separator that is not empty; `limit` < 0: no
/// limit.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    long limit);
std::vector<std::string_view> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                     long limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

/// Simple case mappings by Unicode (a character maps to one: "ß" stays).
std::string upper(std::string_view text);
std::string lower(std::string_view text);
/// First character upper, the rest lower.
std::string capitalize(std::string_view text);
/// Each run of letters capitalized.
std::string title(std::string_view text);

/// `text` wholly matches one of Python's str.is*: "alpha", "digit", ...; false for a name that is unknown.
bool is_all(std::string_view text, std::string_view property);

/// 'text' as Python's repr quotes and escapes it.
std::string repr_quoted(std::string_view text);
/// "text" as json.dumps writes it.
std::string json_quoted(std::string_view text, bool ensure_ascii);
/// & < > " ' as MarkupSafe writes them.
std::string html_escaped(std::string_view text);

}  // namespace redline::jinja
