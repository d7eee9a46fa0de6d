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

std::string ApiKeys::add(std::string_view text, bool is_admin) {
  constexpr std::size_t kLongestName = 64;
  const auto equals =
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
  const bool named = equals != std::string::npos && text[equals] == '=' && equals > 0 &&
                     equals <= kLongestName && text.find_first_not_of('=', equals) != std::string::npos &&
                     text[equals + 1] != '=';
  const std::string_view key = named ? text.substr(equals + 1) : text;
  if (key.empty()) throw std::invalid_argument("an API key is empty");
  const std::string tenant(named ? text.substr(0, equals) : "default");
  if (const auto other = tenant_of(key); other && *other != tenant)
    throw std::invalid_argument("an API key is both " + *other + "'s and " + tenant + "'s");
  keys_.push_back({hash(key), tenant, is_admin});
  return tenant;
}

const ApiKeys::Key* ApiKeys::find(std::string_view key) const {
  const Hash given = hash(key);
  const Key* found = nullptr;
  for (const Key& each : keys_)
    if (CRYPTO_memcmp(given.data(), each.hash.data(), given.size()) == 0) found = &each;
  return found;
}

std::optional<std::string> ApiKeys::tenant_of(std::string_view key) const {
  const Key* found = find(key);
  if (!found) return std::nullopt;
  return found->tenant;
}

bool ApiKeys::sees_all(std::string_view key) const {
  const Key* found = find(key);
  return found && (found->is_admin || tenants().size() == 1);
}

std::set<std::string> ApiKeys::tenants() const {
  std::set<std::string> tenants;
  for (const Key& key : keys_)
    if (!key.is_admin) tenants.insert(key.tenant);
  return tenants;
}

}  // namespace redline::server
