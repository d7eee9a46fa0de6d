#include "server/api_keys.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace redline::server {
namespace {

TEST(ApiKeys, OnlyTheWholeKeyCountsAndSaysWhoseItIs) {
  ApiKeys keys;
  const std::string key(40, 'k');
  keys.add("red=" + key);
  keys.add("base64+key==");
  EXPECT_EQ(keys.tenant_of(key), "red");
  EXPECT_EQ(keys.tenant_of("base64+key=="), "default");
  for (std::size_t i = 0; i < key.size(); ++i) {
    std::string other = key;
    other[i] ^= 1;
    EXPECT_EQ(keys.tenant_of(other), std::nullopt) << i;
    EXPECT_EQ(keys.tenant_of(key.substr(0, i)), std::nullopt) << i;
  }
  for (const std::string& other : {key + "k", key + std::string(1, '\0'), "red=" + key, std::string()})
    EXPECT_EQ(keys.tenant_of(other), std::nullopt);
}

TEST(ApiKeys, AnEmptyOneIsRefused) {
  ApiKeys keys;
  EXPECT_THROW(keys.add(""), std::invalid_argument);
  EXPECT_TRUE(keys.empty());
}

TEST(ApiKeys, OneKeyIsOneTenants) {
  ApiKeys keys;
  EXPECT_EQ(keys.add("red=key"), "red");
  EXPECT_EQ(keys.add("red=key"), "red");
  EXPECT_EQ(keys.add("other"), "default");
  EXPECT_THROW(keys.add("blue=key"), std::invalid_argument);
  EXPECT_THROW(keys.add("key"), std::invalid_argument);
  EXPECT_EQ(keys.tenant_of("key"), "red");
}

TEST(ApiKeys, AnAdminSeesAllTenantsAndTheOnlyTenantEverything) {
  ApiKeys keys;
  keys.add("red=key");
  EXPECT_TRUE(keys.sees_all("key"));
  EXPECT_FALSE(keys.sees_all("other"));
  keys.add("ops=admin", true);
  EXPECT_TRUE(keys.sees_all("key")) << "an admin is no tenant";
  keys.add("blue=other");
  EXPECT_FALSE(keys.sees_all("key"));
  EXPECT_FALSE(keys.sees_all("other"));
  EXPECT_TRUE(keys.sees_all("admin"));
  EXPECT_EQ(keys.tenant_of("admin"), "ops");
  EXPECT_EQ(keys.tenants(), (std::set<std::string>{"blue", "red"}));
}

}  // namespace
}  // namespace redline::server
