#include "server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <stdexcept>

namespace redline::server {

ApiKeys::Hash ApiKeys::hash(std::string_view text) {
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  return hash;
}

void ApiKeys::add(const std::string& text) {
  constexpr std::size_t kLongestName = 64;
  const auto equals =
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
  const bool named = equals != std::string::npos && text[equals] == '=' && equals > 0 &&
                     equals <= kLongestName && text.find_first_not_of('=', equals) != std::string::npos &&
                     text[equals + 1] != '=';
  const std::string key = named ? text.substr(equals + 1) : text;
  if (key.empty()) throw std::invalid_argument("an API key is empty");
  keys_.push_back({hash(key), named ? text.substr(0, equals) : "default"});
}

std::optional<std::string> ApiKeys::tenant_of(std::string_view key) const {
  const Hash given = hash(key);
  const Key* found = nullptr;
  for (const Key& each : keys_)
    if (CRYPTO_memcmp(given.data(), each.hash.data(), given.size()) == 0) found = &each;
  if (!found) return std::nullopt;
  return found->tenant;
}

std::set<std::string> ApiKeys::tenants() const {
  std::set<std::string> tenants;
  for (const Key& key : keys_) tenants.insert(key.tenant);
  return tenants;
}

}  // namespace redline::server
