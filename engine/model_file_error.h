// The error of a bad model file.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace redline {

/// A model file that cannot be used. what() is one line: file, tensor or key, byte offset, what was expected
/// and what was found.
class ModelFileError : public std::runtime_error {
 public:
  struct Where {
    std::string file;
    std::string item = {};  // a tensor, a key, a field; empty: the file itself
    std::optional<std::uint64_t> offset = {};
  };

  /// "FILE: ITEM, at byte OFFSET: PROBLEM". Long texts are cut, control characters left out.
  ModelFileError(const Where& where, const std::string& problem);
  /// "FILE: ITEM, at byte OFFSET: expected EXPECTED, found FOUND".
  ModelFileError(const Where& where, const std::string& expected, const std::string& found);
};

}  // namespace redline
