#include "tests/tools/shell.h"

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace redline::tests {
namespace {

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace

ShellResult shell(const std::string& command) {
  const ScratchDirectory scratch;
  const std::string redirected = "cd " + shell_word(REDLINE_SOURCE_DIR) + " && exec </dev/null >" +
                                 scratch.path("out") + " 2>" + scratch.path("err") + "\n" + command;
  const int status = std::system(redirected.c_str());
  return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), contents(scratch.path("out")),
          contents(scratch.path("err"))};
}

ShellResult redline(const std::string& arguments) {
  return shell(shell_word(REDLINE_BINARY_DIR "/redline") + " " + arguments);
}

std::string test_model() {
  const char* named = std::getenv("REDLINE_TEST_MODEL");
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string path =
      named != nullptr ? std::string(named)
                       : (cache != nullptr ? std::string(cache) : std::string(home ? home : "") + "/.cache") +
                             "/redline/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path))
    throw std::runtime_error(path + ": the test model is not there; tools/get_model.sh gets it");
  return shell_word(path);
}

std::string shell_word(std::string_view text) {
  std::string word = "'";
  for (const char c : text) c == '\'' ? word += "'\\''" : word += c;
  return word + "'";
}

ScratchDirectory::ScratchDirectory() {
  std::string pattern = std::filesystem::temp_directory_path() / "redline-test-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a directory " + pattern);
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() { std::filesystem::remove_all(path_); }

std::string ScratchDirectory::write(const std::string& name, std::string_view content) const {
  std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

}  // namespace redline::tests
