#include "server/key_file.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace redline::server {
namespace {

struct Read {
  ApiKeys keys;
  std::map<std::string, TenantLimits> limits;
};

Read read(std::string_view text, std::map<std::string, TenantLimits> limits = {}) {
  Read result{{}, std::move(limits)};
  read_key_file("keys.txt", text, result.keys, result.limits);
  return result;
}

std::string refusal_of(std::string_view text) {
  try {
    read(text);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(KeyFile, TellsWhoseEachKeyIsAndWhatItsTenantMayTake) {
  const Read file = read(
      "# whose = key\n"
      "alice=first max-waiting=6 kv-share=0.25  # her limits\r\n"
      "alice=second\n"
      "\n"
      "\t bob=third\tkv-share=1\n"
      "ops=fourth admin\n"
      "base64+key== max-waiting=1");
  EXPECT_TRUE(file.keys.sees_all("fourth"));
  EXPECT_FALSE(file.keys.sees_all("first"));
  for (const auto& [key, tenant] :
       {std::pair{"first", "alice"}, {"second", "alice"}, {"third", "bob"}, {"base64+key==", "default"}})
    EXPECT_EQ(file.keys.tenant_of(key), tenant) << key;
  for (const char* other : {"her", "#", "max-waiting=6", "first max-waiting=6 kv-share=0.25", "first\r"})
    EXPECT_EQ(file.keys.tenant_of(other), std::nullopt) << other;
  EXPECT_EQ(file.limits.at("alice").max_waiting, 6);
  EXPECT_EQ(file.limits.at("alice").kv_share, 0.25);
  EXPECT_EQ(file.limits.at("bob").max_waiting, std::nullopt);
  EXPECT_EQ(file.limits.at("bob").kv_share, 1);
  EXPECT_EQ(file.limits.at("default").max_waiting, 1);
}

TEST(KeyFile, LimitsThatHoldAlreadyStay) {
  const Read file =
      read("alice=a max-waiting=6 kv-share=0.5", {{"alice", {.max_waiting = 2, .kv_share = {}}}});
  EXPECT_EQ(file.limits.at("alice").max_waiting, 2);
  EXPECT_EQ(file.limits.at("alice").kv_share, 0.5);
}

TEST(KeyFile, SaysOnWhichLineWhatIsWrongAndShowsNoKey) {
  const std::string secret = "s3cr3t";
  for (const auto& [line, why] :
       {std::pair{"alice=s3cr3t kv-share=1.5",
                  "'kv-share=1.5' is not kv-share=NUMBER with a number above 0, 1 at most"},
        {"alice=s3cr3t max-waiting=0", "'max-waiting=0' is not"},
        {"alice=s3cr3t max-waiting=2x", "'max-waiting=2x' is not"},
        {"alice=s3cr3t max-waiting=", "'max-waiting=' is not"},
        {"alice=s3cr3t max-waiting=99999999999999999999", "is not"},
        {"alice=s3cr3t kv-share=nan", "'kv-share=nan' is not"},
        {"alice=s3cr3t s3cr3t", "word 2 is no limit"},
        {"alice=s3cr3t kv-share=1 max_waiting=4",
         "word 3 is no limit; after a key there may be max-waiting=N"},
        {"max-waiting=4 alice=s3cr3t", "the key comes first"},
        {"alice=s3cr3t max-waiting=4 max-waiting=5", "alice has another max-waiting already"},
        {"bob=known", "an API key is both alice's and bob's"}}) {
    const std::string said =
        refusal_of("# keys\nalice=known max-waiting=4\n" + std::string(line) + "\ncarol=other\n");
    EXPECT_TRUE(said.starts_with("keys.txt:3: ")) << said;
    EXPECT_NE(said.find(why), std::string::npos) << said;
    EXPECT_EQ(said.find(secret), std::string::npos) << said;
  }
  EXPECT_NE(refusal_of("alice=a max-waiting=4\nalice=b max-waiting=5").find("keys.txt:2: alice has another"),
            std::string::npos);
  EXPECT_EQ(refusal_of("alice=a max-waiting=4\nalice=b max-waiting=4"), "");
  for (const char* text : {"", "\n\n", "# only a comment\n"})
    EXPECT_EQ(refusal_of(text), "keys.txt: holds no key");
}

}  // namespace
}  // namespace redline::server
