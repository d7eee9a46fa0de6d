// What every command promises: exit statuses, error lines, environment variables, documents.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/tools/shell.h"

namespace redline::tests {
namespace {

/// One line "redline: ..." under 600 characters, with `part` in it.
void expect_error_line(const ShellResult& result, int status, const std::string& part) {
  EXPECT_EQ(result.status, status) << result.err;
  EXPECT_EQ(result.err.rfind("redline: ", 0), 0u) << result.err;
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  EXPECT_LT(result.err.size(), 600u);
  EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

TEST(CommandLine, WrongUsageExitsWithTwoAndOneLineThatNamesTheHelp) {
  expect_error_line(redline(""), 2, "redline --help");
  expect_error_line(redline("frobnicate"), 2, "frobnicate: no such command");
  expect_error_line(redline("tokenize"), 2, "tokenize: MODEL is required; see redline tokenize --help");
  expect_error_line(redline("tokenize model.gguf --frobnicate"), 2, "--frobnicate");
  expect_error_line(redline("tokenize model.gguf text --file x"), 2, "exclude each other");
}

TEST(CommandLine, AFileThatIsNotThereExitsWithOneAndNamesIt) {
  expect_error_line(redline("tokenize no-such-model.gguf text"), 1, "no-such-model.gguf: ");
  expect_error_line(redline("tokenize " + test_model() + " --file no-such-text"), 1, "no-such-text: ");
}

TEST(CommandLine, AFileThatIsNoModelExitsWithOneAndNamesIt) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("model.gguf", std::string(5000, '\xff'));
  expect_error_line(redline("tokenize " + shell_word(path) + " text"), 1, path);
}

TEST(CommandLine, AnErrorWithALongNameIsCutBelowSixHundredCharacters) {
  expect_error_line(redline("tokenize " + std::string(3000, 'x') + " text"), 1, "xxx");
  expect_error_line(redline("tokenize 'new\nline' text"), 1, "new line");
}

TEST(CommandLine, AFullDiskIsAnError) {
  const ShellResult result = redline("tokenize " + test_model() + " text >/dev/full");
  expect_error_line(result, 1, "standard output");
}

TEST(CommandLine, HelpAndVersionGoToStandardOutput) {
  for (const char* arguments : {"--help", "--version", "tokenize --help"}) {
    const ShellResult result = redline(arguments);
    EXPECT_EQ(result.status, 0);
    EXPECT_FALSE(result.out.empty());
    EXPECT_EQ(result.err, "");
  }
}

TEST(CommandLine, EveryFlagIsAnEnvironmentVariableAndTheCommandLineWins) {
  const std::string program = shell_word(REDLINE_BINARY_DIR "/redline") + " tokenize " + test_model();
  EXPECT_EQ(shell("REDLINE_JSON=1 " + program + " hi").out,
            redline("tokenize --json " + test_model() + " hi").out);
  const ScratchDirectory scratch;
  const std::string one = shell_word(scratch.write("one", "one")),
                    two = shell_word(scratch.write("two", "two"));
  EXPECT_EQ(shell("REDLINE_FILE=" + one + " " + program + " -f " + two).out,
            redline("tokenize " + test_model() + " two").out);
}

TEST(CommandLine, DocsCliIsWhatTheCommandsDeclare) {
  const ShellResult written =
      shell(shell_word(REDLINE_BINARY_DIR "/tools/reference/redline_reference") + " markdown");
  std::ostringstream stored;
  stored << std::ifstream(REDLINE_SOURCE_DIR "/docs/cli.md").rdbuf();
  EXPECT_EQ(written.status, 0);
  EXPECT_EQ(stored.str(), written.out)
      << "renew it: build/release/tools/reference/redline_reference markdown > docs/cli.md";
}

TEST(CommandLine, CompletionsAreValidInEveryShellThatIsHere) {
  const std::string reference = shell_word(REDLINE_BINARY_DIR "/tools/reference/redline_reference");
  for (const std::string name : {"bash", "zsh", "fish"}) {
    const ShellResult checked = shell("command -v " + name + " >/dev/null || exit 0; file=$(mktemp); " +
                                      reference + " " + name + " >$file && " + name +
                                      " -n $file; status=$?; rm $file; exit "
                                      "$status");
    EXPECT_EQ(checked.status, 0) << name << ": " << checked.err;
  }
}

TEST(CommandLine, BashCompletesCommandsAndTheirFlags) {
  const std::string reference = shell_word(REDLINE_BINARY_DIR "/tools/reference/redline_reference");
  const ShellResult result =
      shell("bash -c 'eval \"$(" + reference +
            " bash)\"; COMP_WORDS=(redline tokenize --no-s); COMP_CWORD=2; _redline; echo "
            "${COMPREPLY[*]}; COMP_WORDS=(redline tok); COMP_CWORD=1; _redline; echo "
            "${COMPREPLY[*]}'");
  EXPECT_EQ(result.out, "--no-special\ntokenize\n") << result.err;
}

}  // namespace
}  // namespace redline::tests
