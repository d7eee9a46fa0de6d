#include "server/fields.h"

#include <array>
#include <cmath>

namespace redline::server {
namespace {

constexpr std::size_t kMaxDepth = 128, kMaxFieldName = 64;
// A look-up in an object whose members keep their order passes all of them: one of 16,000 takes so many.
constexpr std::int64_t kMaxKeyComparisons = 1 << 27;

std::string range_text(const std::string& low, const std::string& high) {
  return "from " + low + " to " + high;
}

std::string number_text(double value) {
  std::string text = Json(value).dump();
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

// Passes over a body before it is built, and throws where building it would take too long or too deep a
// stack. (A callback of Json::parse would do, but for the time that its clean-up takes in long arrays.)
class BodyCheck final : public Json::json_sax_t {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(Json::number_integer_t) override { return true; }
  bool number_unsigned(Json::number_unsigned_t) override { return true; }
  bool number_float(Json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(std::string& key) override {
    if (depth_ == 1) field_ = key.size() <= kMaxFieldName ? key : "";
    num_comparisons_ += num_members_[depth_]++;
    if (num_comparisons_ > kMaxKeyComparisons)
      throw ApiError(400, "the body has an object with too many members", "", "invalid_json");
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const Json::exception&) override {
    throw ApiError(400,
                   "the body is not JSON: wrong at byte " + std::to_string(byte) +
                       (field_.empty() ? "" : ", in or after " + field_),
                   field_, "invalid_json");
  }

 private:
  bool open() {
    if (++depth_ > kMaxDepth)
      throw ApiError(400, "the body nests more than " + std::to_string(kMaxDepth) + " deep", "",
                     "invalid_json");
    num_members_[depth_] = 0;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  std::array<std::int64_t, kMaxDepth + 1> num_members_{};  // of the object that is open at each depth
  std::size_t depth_ = 0;
  std::string field_;  // the body's, read last
  std::int64_t num_comparisons_ = 0;
};

}  // namespace

Json parse_body(const std::string& body) {
  BodyCheck check;
  Json::sax_parse(body, &check);
  Json json = Json::parse(body);
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
