#include <random>

#include "tests/bad_files/mutations.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

// Texts that stand where a value stood: not all of them are JSON.
std::vector<std::string> replacements() {
  const auto nested = [](std::size_t depth, const char* open, const char* close) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) text += open;
    text += "1";
    for (std::size_t i = 0; i < depth; ++i) text += close;
    return text;
  };
  return {"null",
          "true",
          "false",
          "0",
          "1",
          "-1",
          "2",
          "3",
          "33",
          "65537",
          "16777216",
          "16777217",
          "4294967296",
          "9007199254740993",
          "9223372036854775807",
          "9223372036854775808",
          "18446744073709551615",
          "18446744073709551616",
          "-9223372036854775808",
          "0.5",
          "-0.0",
          "1e-320",
          "1e308",
          "1e999",
          "NaN",
          "-Infinity",
          std::string(500, '9'),
          "\"\"",
          "\"x\"",
          "\"\\u0000\"",
          "\"\\ud800\"",
          "\"\xff\xfe\"",
          '"' + std::string(10'000, 'y') + '"',
          "\"unfinished",
          "[]",
          "{}",
          "[0]",
          "[[]]",
          "[-1, 1e300, \"a\", null]",
          R"({"a": 1, "type": "Sequence"})",
          nested(40, "[", "]"),
          nested(40, "{\"a\":", "}"),
          nested(100'000, "[", "]"),
          nested(100'000, "[", ""),
          "",
          "tru",
          "01"};
}

void collect(const Json& value, const Json::json_pointer& at, std::vector<Json::json_pointer>& out) {
  out.push_back(at);
  if (value.is_object())
    for (const auto& [key, item] : value.items()) collect(item, at / key, out);
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i) collect(value[i], at / i, out);
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  if (const auto at = text.find(what); at != text.npos) text.replace(at, what.size(), with);
  return text;
}

constexpr const char* kMark = "@@mark@@";
const std::string kQuotedMark = '"' + std::string(kMark) + '"';

// `object` with a member more, before or behind the others, whose key is `key` in the text.
void change_members(const Json& document, const Json::json_pointer& at, std::vector<Mutation>& out) {
  const Json& object = document.at(at);
  const std::string where = at.to_string();
  for (const auto& [key, value] : object.items()) {
    Json missing = document, twice = document, renamed = document;
    missing.at(at).erase(key);
    out.push_back({where + "/" + key + " missing", missing.dump()});
    twice.at(at)[kMark] = value;
    out.push_back({where + "/" + key + " twice", replaced(twice.dump(), kQuotedMark, Json(key).dump())});
    renamed.at(at)[kMark] = value;
    renamed.at(at).erase(key);
    for (const char* name : {"\"\"", "\"x\"", "\"\xff\"", "\"\\u0000\""})
      out.push_back({where + "/" + key + " called " + name, replaced(renamed.dump(), kQuotedMark, name)});
  }
}

void change_items(const Json& document, const Json::json_pointer& at, std::vector<Mutation>& out) {
  for (std::size_t i = 0; i < document.at(at).size(); ++i) {
    Json missing = document, twice = document;
    missing.at(at).erase(i);
    out.push_back({at.to_string() + " without item " + std::to_string(i), missing.dump()});
    twice.at(at).push_back(Json(document.at(at)[i]));
    out.push_back({at.to_string() + " with item " + std::to_string(i) + " twice", twice.dump()});
  }
}

template <class T>
void keep(std::vector<T>& all, std::size_t max_count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::ranges::shuffle(all, random);
  if (all.size() > max_count) all.resize(max_count);
}

}  // namespace

std::vector<Mutation> json_mutations(const Json& document, std::size_t max_count, std::uint32_t seed) {
  std::vector<Mutation> out;
  std::vector<Json::json_pointer> places;
  collect(document, Json::json_pointer(), places);
  const auto values = replacements();
  for (const auto& at : places) {
    Json marked = document;
    marked.at(at) = kMark;
    const std::string text = marked.dump();
    for (const std::string& value : values)
      out.push_back({at.to_string() + " = " + value.substr(0, 40), replaced(text, kQuotedMark, value)});
    if (document.at(at).is_object()) change_members(document, at, out);
    if (document.at(at).is_array()) change_items(document, at, out);
  }
  const std::string good = document.dump();
  for (std::size_t i = 0; i < good.size(); ++i)
    if (std::string_view("{}[],:\"").find(good[i]) != std::string_view::npos)
      out.push_back({"cut after " + std::to_string(i), good.substr(0, i)});
  out.push_back({"more behind the end", good + "{}"});
  out.push_back({"a byte order mark", "\xef\xbb\xbf" + good});
  keep(out, max_count, seed);
  return out;
}

std::vector<Mutation> safetensors_mutations(const std::string& file, std::size_t max_count,
                                            std::uint32_t seed) {
  std::uint64_t size = 0;
  std::copy_n(file.begin(), 8, reinterpret_cast<char*>(&size));
  const std::string data = file.substr(8 + size);
  std::vector<Mutation> out = json_mutations(Json::parse(file.substr(8, size)), max_count, seed);
  for (Mutation& mutation : out) mutation.bytes = safetensors_bytes(mutation.bytes, data);
  const std::uint64_t lengths[] = {
      0,           1,           size - 1,   size + 1,   size + data.size(), file.size() - 7,
      file.size(), 100'000'001, 1ull << 32, 1ull << 63, ~0ull - 7,          ~0ull};
  for (const std::uint64_t length : lengths) {
    std::string changed = file;
    changed.replace(0, 8, bytes_of(length));
    out.push_back({"header length " + std::to_string(length), changed});
  }
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8},
                                std::size_t{9}, static_cast<std::size_t>(8 + size), file.size() - 1})
    out.push_back({"cut after " + std::to_string(cut), file.substr(0, cut)});
  out.push_back({"a byte more", file + '\0'});
  return out;
}

std::vector<Mutation> template_mutations(const std::string& source, std::size_t max_count,
                                         std::uint32_t seed) {
  // Words, and runs of what stands between them.
  std::vector<std::string> parts;
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (const char c : source) {
    if (parts.empty() || !is_word(c) || !is_word(parts.back().back())) parts.emplace_back();
    parts.back() += c;
  }
  const auto joined = [](const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& part : all) text += part;
    return text;
  };
  std::vector<Mutation> out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto changed = [&](const std::string& what, auto&& change) {
      std::vector<std::string> other = parts;
      change(other);
      out.push_back({"part " + std::to_string(i) + " " + what, joined(other)});
    };
    changed("missing", [i](auto& all) { all.erase(all.begin() + static_cast<std::ptrdiff_t>(i)); });
    changed("twice", [i](auto& all) { all[i] += all[i]; });
    changed("exchanged", [i](auto& all) { std::swap(all[i], all[(i + 7) % all.size()]); });
    for (const char* other : {"9223372036854775808", "-1", "\xff", "none", "[[[[", "{%", "-%}", "messages",
                              "|", "'", "range(1000000000)"})
      changed(std::string("= ") + other, [i, other](auto& all) { all[i] = other; });
    out.push_back({"cut before part " + std::to_string(i),
                   joined({parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(i)})});
  }
  keep(out, max_count, seed);
  return out;
}

}  // namespace redline
