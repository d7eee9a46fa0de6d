// A JSON file of a tokenizer, read by key. For this folder's own sources: it brings in nlohmann-json.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/json_parse.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Every read throws ModelFileError naming the file and the key when the value has another type. A key that
/// holds null counts as absent.
class JsonTree {
 public:
  using Json = nlohmann::json;

  using List = std::vector<std::pair<std::string, Json>>;

  /// Throws ModelFileError; a file that does not exist is an empty object unless it is `required`. `lists`
  /// are paths, keys joined by dots, of large objects and arrays: empty in the tree, for take_list.
  JsonTree(const std::filesystem::path& path, bool required, std::initializer_list<const char*> lists = {});
  /// Keys and values of an object, or values of an array, in order.
  List take_list(const char* path);

  const Json& root() const { return root_; }
  const std::string& file() const { return file_; }
  std::size_t file_bytes() const { return file_bytes_; }
  [[noreturn]] void fail(const std::string& key, const std::string& expected, const Json& found) const;

  /// Null when there is none.
  static const Json* find(const Json& object, const char* key) {
    const auto it = object.find(key);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  }

  /// object[key] as a bool, a string, a double or a TokenId; `otherwise` where there is none.
  template <typename T>
  T get(const Json& object, const char* key, T otherwise) const {
    const Json* value = find(object, key);
    return value ? as<T>(*value, key) : otherwise;
  }
  /// `value`, which messages call `key`.
  template <typename T>
  T as(const Json& value, const std::string& key) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!value.is_boolean()) fail(key, "true or false", value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!value.is_string()) fail(key, "a string", value);
    } else if constexpr (std::is_same_v<T, double>) {
      if (!value.is_number()) fail(key, "a number", value);
    } else {
      constexpr TokenId kMaxTokens = 1 << 24;
      if (!value.is_number_integer() || value < 0 || value >= kMaxTokens)
        fail(key, "an integer from 0 to " + std::to_string(kMaxTokens - 1), value);
    }
    return value.get<T>();
  }
  /// object[key], which must be an array, or an object; an empty one where there is none.
  const Json& array(const Json& object, const char* key) const;
  const Json& object(const Json& parent, const char* key) const;

  /// "type", and the steps of the normalizer, pre-tokenizer, decoder or post-processor at root[key] with
  /// sequences (whose steps are under `list`) opened.
  std::string type(const Json& step) const { return get<std::string>(step, "type", ""); }
  std::vector<const Json*> steps(const char* key, const char* list) const;

 private:
  void open(const Json& step, const char* key, const char* list, std::vector<const Json*>& steps) const;

  std::string file_;
  std::size_t file_bytes_ = 0;
  Json root_ = Json::object();
  std::vector<JsonList> lists_;
};

}  // namespace redline
