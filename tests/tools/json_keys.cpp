#include "tests/tools/json_keys.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace redline::tests {

nlohmann::json documented(const std::string& command) {
  std::ostringstream text;
  text << std::ifstream(REDLINE_SOURCE_DIR "/docs/json.md").rdbuf();
  const std::string document = text.str(), fence = "\n```json\n";
  const auto section = document.find("\n## " + command + "\n");
  const auto start = document.find(fence, section);
  const auto end = document.find("\n```\n", start + fence.size());
  if (section == std::string::npos || start == std::string::npos || end == std::string::npos)
    throw std::runtime_error("docs/json.md shows no object under ## " + command);
  return nlohmann::json::parse(document.substr(start + fence.size(), end - start - fence.size()));
}

std::string missing_keys(const nlohmann::json& expected, const nlohmann::json& found,
                         const std::string& path) {
  if (expected.is_null() || found.is_null() || path.ends_with(".by_dtype")) return "";
  std::string missing;
  if (expected.is_array() && found.is_array()) {
    if (!expected.empty() && !found.empty()) missing += missing_keys(expected[0], found[0], path + "[]");
  } else if (expected.is_object() != found.is_object()) {
    missing += path + " ";
  } else if (expected.is_object()) {
    for (const auto& [key, value] : expected.items())
      missing +=
          found.contains(key) ? missing_keys(value, found.at(key), path + "." + key) : path + "." + key + " ";
  }
  return missing;
}

}  // namespace redline::tests
