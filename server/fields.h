// JSON bodies: answers', and requests', read field by field with errors that name the field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/http.h"

namespace redline::server {

using Json = nlohmann::ordered_json;

/// The object that `body` is. Throws ApiError 400 where it is none, nests more than 128 deep, or has an
/// object of more than some 16,000 members.
Json parse_body(const std::string& body);

/// `json` as the answer 200; what is no UTF-8 in it becomes U+FFFD.
HttpResponse json_response(const Json& json);

/// An object's fields; null counts as absent. Every read throws ApiError 400 naming the field for another
/// type or a value out of range.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  const Json* find(const char* key) const;
  std::optional<double> number(const char* key, double low, double high) const;
  std::optional<std::int64_t> integer(const char* key, std::int64_t low, std::int64_t high) const;
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::string> text(const char* key) const;
  /// A string or an array of at most `most` strings.
  std::vector<std::string> texts(const char* key, std::size_t most) const;
  /// An array of integers.
  std::vector<std::int64_t> integers(const char* key, std::int64_t low, std::int64_t high,
                                     std::size_t most) const;
  [[noreturn]] void fail(const char* key, const std::string& expected) const;

 private:
  const Json& object_;
};

}  // namespace redline::server
