#include "engine/json_file.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "engine/file_tensor.h"
#include "engine/mapped_file.h"
#include "engine/model_file_error.h"

namespace redline {

using Json = nlohmann::json;

namespace {

// Throws for the first key that an object of `text`, which parses, holds twice.
[[noreturn]] void report_repeated_key(const std::string& file, std::string_view text) {
  std::vector<std::set<std::string, std::less<>>> keys;  // of each object that is open
  [[maybe_unused]] const Json again = Json::parse(text, [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key)
      if (auto key = parsed.get<std::string>(); !keys.back().insert(key).second)
        throw ModelFileError({file, "key " + printable(key)}, "each key once", "it twice");
    return true;
  });
  throw ModelFileError({file}, "each key once", "one twice");
}

}  // namespace

Json parse_json_object(const std::string& file, std::string_view text, std::uint64_t offset) {
  constexpr std::size_t kMaxDepth = 32;
  std::vector<std::size_t> num_keys;  // of each object or array that is open
  bool repeats = false;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (num_keys.size() == kMaxDepth) throw ModelFileError({file}, "nesting of up to 32 levels", "more");
        num_keys.push_back(0);
        break;
      case Json::parse_event_t::object_end:
        repeats |= parsed.size() != num_keys.back();
        num_keys.pop_back();
        break;
      case Json::parse_event_t::array_end:
        num_keys.pop_back();
        break;
      case Json::parse_event_t::key:
        ++num_keys.back();
        break;
      case Json::parse_event_t::value:
        break;
    }
    return true;
  };
  try {
    Json json = Json::parse(text, watch);
    if (repeats) report_repeated_key(file, text);
    if (json.is_object()) return json;
    throw ModelFileError({file, {}, offset}, "a JSON object", json.type_name());
  } catch (const Json::parse_error& error) {
    throw ModelFileError({file, {}, offset + (error.byte > 0 ? error.byte - 1 : 0)}, "this is not JSON");
  } catch (const Json::out_of_range& error) {  // a number that a double does not hold
    const std::string_view message = error.what();
    const std::string_view number = message.substr(std::min(message.find('\''), message.size()));
    throw ModelFileError({file}, "numbers up to 1.8e308", printable(number));
  }
}

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
