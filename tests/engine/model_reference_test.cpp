#include "engine/model_reference.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/model_file_error.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

// Sets a variable for a test's time; a null value unsets it.
class ScopedEnvironment {
 public:
  ScopedEnvironment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~ScopedEnvironment() { had_ ? ::setenv(name_, old_.c_str(), 1) : ::unsetenv(name_); }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

std::string error_of(const std::string& reference) {
  try {
    find_model(reference);
  } catch (const ModelFileError& error) {
    return error.what();
  }
  return "";
}

TEST(FindModel, TakesFilesAndDirectoriesAsTheyAre) {
  const TemporaryDirectory directory;
  const auto file = directory.write("A-1B.Q8_0.gguf", "x");
  EXPECT_EQ(find_model(file.string()).path, file);
  EXPECT_EQ(find_model(file.string()).name, "A-1B.Q8_0");
  EXPECT_EQ(find_model(directory.path().string()).path, file);  // its only .gguf
  directory.write("b.gguf", "x");
  EXPECT_NE(error_of(directory.path().string()).find("found 2 .gguf files: name one"), std::string::npos);
  directory.write("config.json", "{}");
  EXPECT_EQ(find_model(directory.path().string()).path, directory.path());
  EXPECT_EQ(find_model(directory.path().string() + "/").name, directory.path().filename().string());
}

TEST(FindModel, FindsTheMainSnapshotInTheCacheOfHuggingFace) {
  const TemporaryDirectory directory;
  const std::string repository = "hub/models--some-org--Some.Model-1B/";
  directory.write(repository + "refs/main", "abc123\n");
  directory.write(repository + "snapshots/abc123/config.json", "{}");
  directory.write(repository + "snapshots/fff/config.json", "{}");
  const ScopedEnvironment no_cache("HF_HUB_CACHE", nullptr), home("HF_HOME", directory.path().c_str());
  const auto found = find_model("some-org/Some.Model-1B");
  EXPECT_EQ(found.path, directory.path() / repository / "snapshots/abc123");
  EXPECT_EQ(found.name, "Some.Model-1B");
  const ScopedEnvironment cache("HF_HUB_CACHE", (directory.path() / "elsewhere").c_str());
  EXPECT_NE(error_of("some-org/Some.Model-1B").find("elsewhere"), std::string::npos);
}

TEST(FindModel, SaysWhatIsMissing) {
  const TemporaryDirectory directory;
  const ScopedEnvironment cache("HF_HUB_CACHE", directory.path().c_str());
  EXPECT_NE(error_of("org/name").find("`hf download org/name` fetches it"), std::string::npos);
  EXPECT_NE(error_of("missing.gguf").find("missing.gguf: no such file or directory"), std::string::npos);
  EXPECT_NE(error_of("../up/model").find("no such file or directory"), std::string::npos);
  EXPECT_NE(error_of("").find("no such file or directory"), std::string::npos);
  directory.write("models--org--name/refs/main", "../../..");
  directory.write("models--org--name/snapshots/abc/config.json", "{}");
  EXPECT_NE(error_of("org/name").find("expected the snapshot"), std::string::npos);
  directory.write("models--org--name/refs/main", "");
  EXPECT_EQ(error_of("org/name"), "");  // the only snapshot
  directory.write("models--org--name/snapshots/def/config.json", "{}");
  EXPECT_NE(error_of("org/name").find("expected a commit"), std::string::npos);
}

}  // namespace
}  // namespace redline
