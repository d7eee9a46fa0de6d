#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(REDLINE_SOURCE_DIR "/" + path).rdbuf();
  return text.str();
}

TEST(Readme, ShowsTheExampleAsItIs) {
  EXPECT_NE(contents("README.md").find("```cpp\n" + contents("examples/generate.cpp") + "```"),
            std::string::npos);
}

TEST(Readme, LinksToFilesThatAreThere) {
  const std::string text = contents("README.md");
  for (std::size_t at = 0; (at = text.find("](", at)) != std::string::npos; at += 2) {
    const std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
    if (target.find("://") == std::string::npos) {
      EXPECT_NE(contents(target), "") << target;
    }
  }
}

TEST(Example, GeneratesAndSaysWhatItCost) {
  const ShellResult result = shell(shell_word(REDLINE_BINARY_DIR "/examples/generate") + " " + test_model() +
                                   " 'The capital of France is'");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("Paris"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("32 tokens: "), std::string::npos) << result.out;
}

}  // namespace
}  // namespace redline::tests
