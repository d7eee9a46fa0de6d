// Runs a command as a user would and keeps what it printed.
#pragma once

#include <string>
#include <string_view>

namespace redline::tests {

struct ShellResult {
  int status = 0;  // the exit status; 128 + the signal's number where one ended it
  std::string out, err;
};

/// Runs `command` by sh -c in the repository's root, with an empty standard input unless it redirects one.
ShellResult shell(const std::string& command);

/// Runs the built program with `arguments`, as words of the shell.
ShellResult redline(const std::string& arguments);

/// The real model that tests run, SmolLM2-135M-Instruct, as a word of the shell: REDLINE_TEST_MODEL, else
/// where tools/get_model.sh keeps it. Throws std::runtime_error where it is not.
std::string test_model();

/// `text` as one word of a shell command.
std::string shell_word(std::string_view text);

/// A directory for this test's files, removed with the object.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file, making the folders it lies in, and returns its path.
  std::string write(const std::string& name, std::string_view content) const;

 private:
  std::string path_;
};

}  // namespace redline::tests
