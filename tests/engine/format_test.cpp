#include "engine/meter/format.h"

#include <gtest/gtest.h>

#include <limits>

namespace redline {
namespace {

TEST(Format, ThreeSignificantDigits) {
  EXPECT_EQ(format_number(0), "0.00");
  EXPECT_EQ(format_number(0.012345), "0.0123");
  EXPECT_EQ(format_number(1.9), "1.90");
  EXPECT_EQ(format_number(9.996), "10.0");
  EXPECT_EQ(format_number(99.96), "100");
  EXPECT_EQ(format_number(131.4), "131");
  EXPECT_EQ(format_number(12345), "12,345");
  EXPECT_EQ(format_number(std::numeric_limits<double>::quiet_NaN()), kUnknownText);
}

TEST(Format, SiPrefixes) {
  EXPECT_EQ(format_si(4.35e10, "FLOP/s"), "43.5 GFLOP/s");
  EXPECT_EQ(format_si(999.6, "B"), "1.00 kB");
  EXPECT_EQ(format_si(27.6e12, ""), "27.6 T");
  EXPECT_EQ(format_si(0, "B/s"), "0.00 B/s");
  EXPECT_EQ(format_si(12, ""), "12.0");
}

TEST(Format, PercentsKeepTwoDigitsBelowOne) {
  EXPECT_EQ(format_percent(0.214), "21.4 %");
  EXPECT_EQ(format_percent(0.0027), "0.27 %");
  EXPECT_EQ(format_percent(0.00999), "1.0 %");
  EXPECT_EQ(format_percent(1.25), "125.0 %");
}

TEST(Format, CountsAndDurations) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(123456), "123,456");
  EXPECT_EQ(format_duration(8.5e-7), "850 ns");
  EXPECT_EQ(format_duration(0.183), "183 ms");
  EXPECT_EQ(format_duration(4.214), "4.21 s");
  EXPECT_EQ(format_duration(180), "3 min");
  EXPECT_EQ(format_duration(5 * 3600), "5 h");
  EXPECT_EQ(format_duration(3 * 86400.0), "3 days");
}

TEST(Format, TablesAlignByCodePoints) {
  EXPECT_EQ(format_table({{"", "a", "bound"}, {"decode", "–", "x"}, {"p", "123"}}, "  "),
            "            a  bound\n"
            "  decode    –      x\n"
            "  p       123\n");
}

}  // namespace
}  // namespace redline
