#include "engine/mapped_file.h"

#include <gtest/gtest.h>

#include "engine/model_file_error.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

TEST(MappedFile, HoldsTheFilesBytesAlsoAfterRelease) {
  const TemporaryDirectory directory;
  const MappedFile file(directory.write("f", std::string(10000, 'x')));
  ASSERT_EQ(file.bytes().size(), 10000U);
  file.release(file.bytes());
  for (const std::byte byte : file.bytes()) ASSERT_EQ(byte, std::byte{'x'});
}

TEST(MappedFile, RefusesWhatIsNoFileWithBytes) {
  const TemporaryDirectory directory;
  const auto message = [](const std::filesystem::path& path) -> std::string {
    try {
      const MappedFile file(path);
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  };
  const auto path = directory.path().string();
  EXPECT_EQ(message(path), path + ": not a regular file");
  EXPECT_EQ(message(path + "/none"), path + "/none: cannot open: No such file or directory");
  EXPECT_EQ(message(directory.write("empty", "")), path + "/empty: the file is empty");
}

TEST(MappedFile, StandsForBytesInMemory) {
  const std::string bytes(10, 'x');
  const MappedFile file("name", std::as_bytes(std::span(bytes)));
  file.release(file.bytes());
  EXPECT_EQ(file.path(), "name");
  EXPECT_EQ(file.bytes().data(), reinterpret_cast<const std::byte*>(bytes.data()));
  EXPECT_THROW(MappedFile("name", {}), ModelFileError);
}

using MappedFileDeathTest = ::testing::Test;

TEST(MappedFileDeathTest, EndsTheProcessByNameWhenTheFileShrinks) {
  const TemporaryDirectory directory;
  const auto path = directory.write("model.gguf", std::string(3 * 4096, 'x'));
  EXPECT_EXIT(
      {
        const MappedFile file(path);
        std::filesystem::resize_file(path, 4096);
        volatile auto byte = file.bytes()[2 * 4096];
        static_cast<void>(byte);
      },
      ::testing::ExitedWithCode(1), "model.gguf: the file shrank or could not be read while it was in use");
}

}  // namespace
}  // namespace redline
