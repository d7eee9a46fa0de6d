// The keys that clients must send, and whose they are.
#pragma once

#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace redline::server {

/// Holds hashes only; a look-up takes as long whichever key is given, or none of them.
class ApiKeys {
 public:
  /// `text`: NAME=KEY, or a KEY, which then is the tenant "default"'s. A NAME has letters, digits, '_' and
  /// '-'; an '=' at a key's end is its own. Returns the tenant. Throws std::invalid_argument for an empty
  /// key, and for one that is another tenant's already.
  /// An admin's key sees what every tenant uses.
  std::string add(std::string_view text, bool is_admin = false);
  bool empty() const { return keys_.empty(); }
  /// Whose key this is.
  std::optional<std::string> tenant_of(std::string_view key) const;
  /// Whether whoever has this key may see what every tenant uses: an admin, and everybody where all keys are
  /// one tenant's.
  bool sees_all(std::string_view key) const;
  /// Everybody who has a key that is no admin's.
  std::set<std::string> tenants() const;

 private:
  using Hash = std::array<unsigned char, 32>;
  static Hash hash(std::string_view text);
  struct Key {
    Hash hash;
    std::string tenant;
    bool is_admin;
  };
  const Key* find(std::string_view key) const;
  std::vector<Key> keys_;
};

}  // namespace redline::server
