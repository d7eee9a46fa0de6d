// JSON text from model files to a tree, with care. For the engine's own sources: it brings in nlohmann-json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redline {

/// A large object or array that is wanted as a list: in order, quicker to make and to read than a tree.
struct JsonList {
  std::string path;  // where it is looked for: keys joined by dots
  std::vector<std::pair<std::string, nlohmann::json>> entries = {};  // an array's without a key
};

/// The object that `text` is; it starts at byte `offset` of `file`, which only messages use. What lies at the
/// paths of `lists` goes there, if it is an object or an array, and leaves an empty one of its kind in the
/// tree. Throws ModelFileError when it is no JSON object, nests more than 32 deep, or holds a key twice in
/// one object.
nlohmann::json parse_json_object(const std::string& file, std::string_view text, std::uint64_t offset = 0,
                                 std::span<JsonList> lists = {});

}  // namespace redline
