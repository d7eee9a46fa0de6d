#include "server/key_file.h"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

namespace redline::server {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f", kMaxWaiting = "max-waiting", kKvShare = "kv-share",
                           kAdmin = "admin";

// Up to a comment.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0;;) {
    begin = std::min(line.find_first_not_of(kBlanks, begin), line.size());
    if (begin == line.size() || line[begin] == '#') return words;
    const std::size_t end = std::min(line.find_first_of(kBlanks, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = end;
  }
}

template <typename Number>
void set_limit(std::string_view word, std::string_view name, const std::string& tenant, Number most,
               std::optional<Number>& limit) {
  const auto value = parse_limit<Number>(word.substr(name.size() + 1), most);
  if (!value)
    throw std::invalid_argument("'" + std::string(word) + "' is not " + std::string(name) +
                                "=NUMBER with a number above 0, " +
                                std::to_string(static_cast<std::int64_t>(most)) + " at most");
  if (limit && *limit != *value)
    throw std::invalid_argument(tenant + " has another " + std::string(name) + " already");
  limit = value;
}

bool is_limit(std::string_view word, std::string_view name) {
  return word.starts_with(name) && word.size() > name.size() && word[name.size()] == '=';
}

// The word itself stays out of the message: it may be half a key.
void read_line(const std::vector<std::string_view>& words, ApiKeys& keys,
               std::map<std::string, TenantLimits>& limits) {
  if (is_limit(words.front(), kMaxWaiting) || is_limit(words.front(), kKvShare))
    throw std::invalid_argument("begins with a limit: the key comes first");
  const bool is_admin = std::find(words.begin() + 1, words.end(), kAdmin) != words.end();
  const std::string tenant = keys.add(words.front(), is_admin);
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (is_limit(words[i], kMaxWaiting))
      set_limit<std::int64_t>(words[i], kMaxWaiting, tenant, kMostWaiting, limits[tenant].max_waiting);
    else if (is_limit(words[i], kKvShare))
      set_limit<double>(words[i], kKvShare, tenant, 1, limits[tenant].kv_share);
    else if (words[i] != kAdmin)
      throw std::invalid_argument("word " + std::to_string(i + 1) +
                                  " is no limit; after a key there may be max-waiting=N, kv-share=SHARE and "
                                  "admin");
  }
}

}  // namespace

void read_key_file(const std::string& path, std::string_view text, ApiKeys& keys,
                   std::map<std::string, TenantLimits>& limits) {
  std::map<std::string, TenantLimits> said;
  bool has_key = false;
  for (std::size_t begin = 0, number = 1; begin < text.size(); ++number) {
    const auto end = std::min(text.find('\n', begin), text.size());
    const auto words = words_of(text.substr(begin, end - begin));
    begin = end + 1;
    if (words.empty()) continue;
    has_key = true;
    try {
      read_line(words, keys, said);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error(path + ":" + std::to_string(number) + ": " + error.what());
    }
  }
  if (!has_key) throw std::runtime_error(path + ": holds no key");
  for (const auto& [tenant, each] : said) {
    TenantLimits& limit = limits[tenant];
    if (!limit.max_waiting) limit.max_waiting = each.max_waiting;
    if (!limit.kv_share) limit.kv_share = each.kv_share;
  }
}

}  // namespace redline::server
