#include "tools/redline/batch_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

std::string text_field(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

BatchLine parse_line(const std::string& text, std::int64_t number) {
  BatchLine line;
  line.number = number;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    line.problem = "is no JSON object";
    return line;
  }
  line.custom_id = text_field(json, "custom_id");
  line.request.method = text_field(json, "method");
  line.request.path = text_field(json, "url");
  const auto body = json.find("body");
  if (line.custom_id.empty())
    line.problem = "custom_id: expected a string";
  else if (line.request.method != "POST")
    line.problem = "method: expected POST";
  else if (line.request.path.empty())
    line.problem = "url: expected a string";
  else if (body == json.end() || !body->is_object())
    line.problem = "body: expected an object";
  else if (body->contains("stream") && (*body)["stream"] == true)
    line.problem = "body: stream is not for batches";
  else
    line.request.body = dump(*body);
  return line;
}

std::string random_id(const char* prefix) {
  static std::mt19937_64 random{std::random_device()()};
  char text[48];
  std::snprintf(text, sizeof text, "%s%016llx", prefix, static_cast<unsigned long long>(random()));
  return text;
}

}  // namespace

std::vector<BatchLine> read_batch(const std::string& path) {
  std::istringstream text(read_file(path));
  std::vector<BatchLine> lines;
  std::set<std::string> seen;
  std::int64_t number = 0;
  for (std::string each; std::getline(text, each);) {
    ++number;
    if (each.find_first_not_of(" \t\r") == std::string::npos) continue;
    BatchLine& line = lines.emplace_back(parse_line(each, number));
    if (line.problem.empty() && !seen.insert(line.custom_id).second)
      line.problem = "custom_id: '" + line.custom_id + "' stands on a line before";
  }
  return lines;
}

Json batch_result(const BatchLine& line, const server::HttpResponse& response) {
  return {{"id", random_id("batch_req_")},
          {"custom_id", line.custom_id},
          {"response",
           {{"status_code", response.status},
            {"request_id", random_id("req_")},
            {"body", Json::parse(response.body, nullptr, /*allow_exceptions=*/false)}}},
          {"error", nullptr}};
}

Json batch_problem(const BatchLine& line) {
  return {{"id", random_id("batch_req_")},
          {"custom_id", line.custom_id.empty() ? Json() : Json(line.custom_id)},
          {"response", nullptr},
          {"error",
           {{"code", "invalid_line"},
            {"message", "line " + std::to_string(line.number) + ": " + line.problem},
            {"line", line.number}}}};
}

BatchOutput::BatchOutput(const std::string& path) : path_(path) {
  if (std::filesystem::exists(path)) {
    if (!std::filesystem::is_regular_file(path))
      throw std::runtime_error(path + ": is no file that a later run could go on with");
    const std::string text = read_file(path);
    const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
    std::istringstream lines(text.substr(0, whole));
    std::int64_t number = 0;
    for (std::string each; std::getline(lines, each);) {
      ++number;
      const Json json = Json::parse(each, nullptr, /*allow_exceptions=*/false);
      if (!json.is_object() || !json.contains("response") || !json.contains("error"))
        throw std::runtime_error(path + ": line " + std::to_string(number) +
                                 ": is no result of a batch: another file's name, or a damaged one");
      if (json["error"].is_object() && json["error"].contains("line"))
        problem_lines_.insert(json["error"]["line"].get<std::int64_t>());
      else
        custom_ids_.insert(text_field(json, "custom_id"));
    }
    if (whole < text.size()) std::filesystem::resize_file(path, whole);
  }
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (!file_) throw std::runtime_error(path + ": cannot be written: " + std::strerror(errno));
}

bool BatchOutput::holds(const BatchLine& line) const {
  return line.problem.empty() ? custom_ids_.contains(line.custom_id) : problem_lines_.contains(line.number);
}

void BatchOutput::append(const Json& result) {
  const std::string line = dump(result) + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0)
    throw std::runtime_error(path_ + ": cannot be written: " + std::strerror(errno));
}

}  // namespace redline
