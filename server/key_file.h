// The file of API keys: whose they are, and what their tenants may take.
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "server/api_keys.h"

namespace redline::server {

/// What is said of one tenant; nothing: what holds for all.
struct TenantLimits {
  std::optional<std::int64_t> max_waiting;  // requests
  std::optional<double> kv_share;           // of the cache's blocks, (0, 1]
};
constexpr std::int64_t kMostWaiting = 1 << 30;

/// The number that the whole of `text` is, above 0 and `most` at most; nothing for any other text.
template <typename Number>
std::optional<Number> parse_limit(std::string_view text, Number most) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0 && value <= most))
    return std::nullopt;
  return value;
}

/// Adds what `text`, a key file's, holds. A line is "[NAME=]KEY [max-waiting=N] [kv-share=SHARE] [admin]",
/// its words apart by blanks; a word that begins with '#' begins a comment; empty lines count as none. Limits
/// are the tenant's, whichever of its keys' lines says them, but for those that `limits` holds already.
/// Throws std::runtime_error "PATH:LINE: what is wrong", without any key, for a word that is no limit, a
/// limit that is said twice otherwise, and for what ApiKeys::add refuses; "PATH: holds no key" where there is
/// none.
void read_key_file(const std::string& path, std::string_view text, ApiKeys& keys,
                   std::map<std::string, TenantLimits>& limits);

}  // namespace redline::server
