#include "server/fields.h"

#include <cmath>

namespace redline::server {
namespace {

constexpr int kMaxDepth = 128;

std::string range_text(const std::string& low, const std::string& high) {
  return "from " + low + " to " + high;
}

std::string number_text(double value) {
  std::string text = Json(value).dump();
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

}  // namespace

Json parse_body(const std::string& body) {
  const auto limit_depth = [](int depth, Json::parse_event_t event, Json&) {
    if (depth > kMaxDepth &&
        (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start))
      throw ApiError(400, "the body nests more than " + std::to_string(kMaxDepth) + " deep", "",
                     "invalid_json");
    return true;
  };
  Json json;
  try {
    json = Json::parse(body, limit_depth);
  } catch (const Json::exception&) {
    throw ApiError(400, "the body is not JSON", "", "invalid_json");
  }
  if (!json.is_object()) throw ApiError(400, "the body is no JSON object", "", "invalid_json");
  return json;
}

HttpResponse json_response(const Json& json) {
  return {.body = json.dump(-1, ' ', false, Json::error_handler_t::replace), .headers = {}};
}

const Json* Fields::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::fail(const char* key, const std::string& expected) const {
  std::string found =
      object_.contains(key) ? object_[key].dump(-1, ' ', true, Json::error_handler_t::replace) : "nothing";
  if (found.size() > 80) found = found.substr(0, 80) + "...";
  throw ApiError(400, std::string(key) + ": expected " + expected + ", found " + found, key, "invalid_value");
}

std::optional<double> Fields::number(const char* key, double low, double high) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high))
    fail(key, "a number " + range_text(number_text(low), number_text(high)));
  return value->get<double>();
}

std::optional<std::int64_t> Fields::integer(const char* key, std::int64_t low, std::int64_t high) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  const std::string expected = "an integer " + range_text(std::to_string(low), std::to_string(high));
  if (!value->is_number_integer() || (value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX))
    fail(key, expected);
  const auto integer = value->get<std::int64_t>();
  if (integer < low || integer > high) fail(key, expected);
  return integer;
}

std::optional<bool> Fields::boolean(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const char* key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::vector<std::string> Fields::texts(const char* key, std::size_t most) const {
  const Json* value = find(key);
  if (!value) return {};
  if (value->is_string()) return {value->get<std::string>()};
  const std::string expected = "a string or an array of at most " + std::to_string(most);
  if (!value->is_array() || value->size() > most) fail(key, expected);
  std::vector<std::string> texts;
  for (const Json& each : *value) {
    if (!each.is_string()) fail(key, expected);
    texts.push_back(each.get<std::string>());
  }
  return texts;
}

std::vector<std::int64_t> Fields::integers(const char* key, std::int64_t low, std::int64_t high,
                                           std::size_t most) const {
  const Json* value = find(key);
  if (!value) return {};
  const std::string expected = "an array of at most " + std::to_string(most) + " integers " +
                               range_text(std::to_string(low), std::to_string(high));
  if (!value->is_array() || value->size() > most) fail(key, expected);
  std::vector<std::int64_t> integers;
  for (const Json& each : *value) {
    if (!each.is_number_integer() || each < low || each > high) fail(key, expected);
    integers.push_back(each.get<std::int64_t>());
  }
  return integers;
}

}  // namespace redline::server
