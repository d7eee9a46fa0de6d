#include <gtest/gtest.h>

#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

ShellResult check(const std::string& root) {
  return shell("python3 tools/check_includes.py " + shell_word(root));
}

TEST(IncludeDirection, HoldsInThisRepository) {
  const ShellResult result = check(REDLINE_SOURCE_DIR);
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST(IncludeDirection, RefusesAnUpwardInclude) {
  const ScratchDirectory root;
  root.write("engine/model.h", "#pragma once\n");
  root.write("kernels/ops.cpp", "#include <vector>\n\n  # include \"engine/model.h\"\n");
  const ShellResult result = check(root.path(""));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err,
            "kernels/ops.cpp:3: kernels/ may not include \"engine/model.h\" (it may see kernels)\n");
}

TEST(IncludeDirection, RefusesAnIncludeThatIsNotRootedAtTheRepository) {
  const ScratchDirectory root;
  root.write("kernels/ops.h", "#pragma once\n");
  root.write("kernels/ops.cpp", "#include \"ops.h\"\n");
  const ShellResult result = check(root.path(""));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("kernels/ops.cpp:1: \"ops.h\" is not a file of the repository"),
            std::string::npos)
      << result.err;
}

TEST(IncludeDirection, AllowsADownwardInclude) {
  const ScratchDirectory root;
  root.write("kernels/ops.h", "#pragma once\n");
  root.write("engine/model.cpp", "#include \"kernels/ops.h\"\n");
  EXPECT_EQ(check(root.path("")).status, 0);
}

}  // namespace
}  // namespace redline::tests
