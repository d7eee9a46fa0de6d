// JSON from model files, read by key with errors that name it. For the engine's own
// sources: it brings in nlohmann-json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace redline {

/// An object in a JSON file, read by key. A key that holds null counts as absent. Every read throws
/// ModelFileError naming file and key when the value has another type or is out of range.
class JsonFile {
 public:
  /// Reads and parses a whole file. Throws ModelFileError.
  explicit JsonFile(const std::filesystem::path& path);
  /// The same of a text in memory; `name` is the file's in messages.
  JsonFile(std::string name, std::string_view text);
  /// The object at `key` of `parent`, whose file it shares.
  JsonFile(const JsonFile& parent, const std::string& key);

  const nlohmann::json& object() const { return object_; }
  const std::string& file() const { return file_; }
  bool has(const char* key) const { return find(key) != nullptr; }
  /// Whether the key is there, be it with null.
  bool mentions(const char* key) const { return object_.contains(key); }
  bool is_object(const char* key) const { return has(key) && find(key)->is_object(); }

  /// An integer from 1 to 2^24.
  std::optional<std::int64_t> find_size(const char* key) const;
  std::int64_t size(const char* key) const;
  /// A finite number above 0.
  std::optional<double> find_positive(const char* key) const;
  double positive(const char* key) const;
  /// An array of `count` finite numbers above 0.
  std::vector<float> positives(const char* key, std::size_t count) const;
  std::optional<bool> find_bool(const char* key) const;
  std::optional<std::string> find_string(const char* key) const;

  [[noreturn]] void fail(const char* key, const std::string& expected) const;

 private:
  const nlohmann::json* find(const char* key) const;

  std::string file_;
  std::string prefix_;  // of keys in messages: "rope_scaling."
  nlohmann::json object_;
};

}  // namespace redline
