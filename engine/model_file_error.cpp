#include "engine/model_file_error.h"

#include <algorithm>
#include <string_view>

namespace redline {
namespace {

// What came from a file may be of any length and hold anything: a message stays one line, shorter than 600
// bytes beside the file's name.
std::string shortened(std::string_view text, std::size_t max_bytes) {
  std::string out(text.substr(0, max_bytes));
  if (text.size() > max_bytes) out += "...";
  std::ranges::replace_if(
      out, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return out;
}

std::string prefix(const ModelFileError::Where& where) {
  std::string text = where.file + ": " + shortened(where.item, 120);
  if (where.offset) text += (where.item.empty() ? "at byte " : ", at byte ") + std::to_string(*where.offset);
  return where.item.empty() && !where.offset ? text : text + ": ";
}

}  // namespace

ModelFileError::ModelFileError(const Where& where, const std::string& problem)
    : std::runtime_error(prefix(where) + shortened(problem, 300)) {}

ModelFileError::ModelFileError(const Where& where, const std::string& expected, const std::string& found)
    : std::runtime_error(prefix(where) + "expected " + shortened(expected, 200) + ", found " +
                         shortened(found, 120)) {}

}  // namespace redline
