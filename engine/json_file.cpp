#include "engine/json_file.h"

#include <cmath>
#include <utility>

#include "engine/json_parse.h"
#include "engine/mapped_file.h"
#include "engine/model_file_error.h"

namespace redline {

using Json = nlohmann::json;

JsonFile::JsonFile(const std::filesystem::path& path) : file_(path.string()) {
  const MappedFile mapped(path);
  object_ =
      parse_json_object(file_, {reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()});
}

JsonFile::JsonFile(std::string name, std::string_view text)
    : file_(std::move(name)), object_(parse_json_object(file_, text)) {}

JsonFile::JsonFile(const JsonFile& parent, const std::string& key)
    : file_(parent.file_), prefix_(parent.prefix_ + key + ".") {
  const Json* value = parent.find(key.c_str());
  if (!value || !value->is_object()) parent.fail(key.c_str(), "an object");
  object_ = *value;
}

const Json* JsonFile::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonFile::fail(const char* key, const std::string& expected) const {
  const auto it = object_.find(key);
  std::string found = "nothing";
  if (it != object_.end()) found = it->dump(-1, ' ', true, Json::error_handler_t::replace);
  if (found.size() > 80) found = found.substr(0, 80) + "...";
  throw ModelFileError({file_, prefix_ + key}, expected, found);
}

std::optional<std::int64_t> JsonFile::find_size(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  constexpr std::uint64_t kMaxSize = 1 << 24;
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() < 1 ||
      value->get<std::uint64_t>() > kMaxSize)
    fail(key, "an integer from 1 to 2^24");
  return value->get<std::int64_t>();
}

std::int64_t JsonFile::size(const char* key) const {
  const auto value = find_size(key);
  if (!value) fail(key, "an integer from 1 to 2^24");
  return *value;
}

std::optional<double> JsonFile::find_positive(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>()))
    fail(key, "a positive number");
  return value->get<double>();
}

double JsonFile::positive(const char* key) const {
  const auto value = find_positive(key);
  if (!value) fail(key, "a positive number");
  return *value;
}

std::vector<float> JsonFile::positives(const char* key, std::size_t count) const {
  const std::string expected = std::to_string(count) + " positive numbers";
  const Json* value = find(key);
  if (!value || !value->is_array() || value->size() != count) fail(key, expected);
  std::vector<float> numbers;
  for (const Json& number : *value) {
    if (!number.is_number()) fail(key, expected);
    numbers.push_back(number.get<float>());
    if (!(numbers.back() > 0) || !std::isfinite(numbers.back())) fail(key, expected);
  }
  return numbers;
}

std::optional<bool> JsonFile::find_bool(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFile::find_string(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

}  // namespace redline
