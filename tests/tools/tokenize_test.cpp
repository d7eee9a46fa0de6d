#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

TEST(Tokenize, JsonHoldsIdsAndPiecesThatDecodeToTheText) {
  const std::string text = "Hello, world: 123 caf\xc3\xa9 <|im_end|>\n";
  const ScratchDirectory scratch;
  const std::string file = scratch.write("text", text);
  const ShellResult result = redline("tokenize --json " + test_model() + " -f " + shell_word(file));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json.at("ids").size(), json.at("pieces").size());
  std::string joined;
  for (const auto& piece : json.at("pieces")) joined += piece.get<std::string>();
  EXPECT_EQ(joined, text);
  const std::string ids = scratch.write("ids", json.at("ids").dump());
  EXPECT_EQ(redline("tokenize " + test_model() + " --decode " + shell_word(ids)).out, text);
}

TEST(Tokenize, TakesItsTextFromThreePlacesAlike) {
  const ScratchDirectory scratch;
  const std::string file = shell_word(scratch.write("text", "one two"));
  const std::string model = test_model();
  const std::string expected = redline("tokenize --json " + model + " 'one two'").out;
  EXPECT_NE(expected, "");
  EXPECT_EQ(redline("tokenize --json " + model + " -f " + file).out, expected);
  EXPECT_EQ(redline("tokenize --json " + model + " <" + file).out, expected);
}

TEST(Tokenize, SpecialTokensAreTextWhenAskedFor) {
  const std::string model = test_model();
  const auto count = [&](const std::string& flags) {
    return nlohmann::json::parse(redline("tokenize --json " + flags + model + " '<|im_end|>'").out)
        .at("ids")
        .size();
  };
  EXPECT_EQ(count(""), 1u);
  EXPECT_GT(count("--no-parse-special "), 1u);
}

TEST(Tokenize, DecodingRefusesWhatIsNoTokenId) {
  const ScratchDirectory scratch;
  for (const char* content : {"[1, \"x\"]", "[1, -2]", "[1, 49152]", "{}", "[1, 2"}) {
    const std::string ids = scratch.write("ids", content);
    const ShellResult result = redline("tokenize " + test_model() + " --decode " + shell_word(ids));
    EXPECT_EQ(result.status, 1) << content;
    EXPECT_EQ(result.err.rfind("redline: " + ids + ": ", 0), 0u) << result.err;
  }
}

}  // namespace
}  // namespace redline::tests
