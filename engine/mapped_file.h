// Read-only mapped files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace redline {

/// A whole file mapped read-only, or bytes that stand for one. Views into it die with it. If the file shrinks
/// while it is mapped, touching a lost page ends the process with status 1 and a message that names the file
/// (the kernel sends SIGBUS; nothing can be read there any more).
class MappedFile {
 public:
  /// Throws ModelFileError when `path` cannot be opened, is no regular file, or is empty.
  explicit MappedFile(const std::filesystem::path& path);
  /// `bytes` in memory, which outlive this, as if they were mapped from a file called `name`. Throws
  /// ModelFileError when there are none.
  MappedFile(std::string name, std::span<const std::byte> bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Tells the kernel that the whole pages within `range` will not be read again; reading them stays correct.
  void release(std::span<const std::byte> range) const;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  bool mapped_ = false;
  int slot_ = -1;  // in the table that the SIGBUS handler reads; -1: not there
};

}  // namespace redline
