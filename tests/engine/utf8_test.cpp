#include "engine/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace redline {
namespace {

TEST(Utf8, ReplacesEachMaximalBrokenPrefixOnce) {
  // Unicode 15, table 3-8 and neighbours: what Python's errors="replace" gives.
  EXPECT_EQ(to_valid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                          "b\x80"
                          "c\x80\xBF"
                          "d"),
            "a���b�c��d");
  EXPECT_EQ(to_valid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "��������A");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "��������A");
  EXPECT_EQ(to_valid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "�����A��B");
  EXPECT_EQ(to_valid_utf8("\xE1\x80"), "�");
}

TEST(Utf8, EveryScalarValueIsWrittenAndRead) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Unit unit = utf8_unit(text, 0);
    ASSERT_TRUE(unit.valid) << static_cast<unsigned>(c);
    ASSERT_EQ(unit.code_point, c);
    ASSERT_EQ(unit.num_bytes, text.size());
  }
}

TEST(Utf8, AStreamGivesTheSameHoweverItsBytesAreCut) {
  std::mt19937 rng(3);
  const std::string lively = "\xF0\x9F\x98\x80\xE4\xBD\xA0\xC3\xA9\xED\xA0\x80\xFF a\xF4\x90\xE0\x9F";
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes(rng() % 24, ' ');
    for (char& c : bytes) c = lively[rng() % lively.size()];
    Utf8Stream stream;
    std::string text;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = 1 + rng() % 5;
      text += stream.feed(std::string_view(bytes).substr(at, size));
      at += size;
    }
    EXPECT_EQ(text += stream.finish(), to_valid_utf8(bytes)) << "seed 3, trial " << trial;
  }
}

}  // namespace
}  // namespace redline
