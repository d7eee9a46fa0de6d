// OpenAI's batch files: a request a line in, a result a line out.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "server/http.h"
#include "tools/redline/npy.h"

namespace redline {

/// One line of the input: {"custom_id", "method": "POST", "url": "/v1/...", "body": {...}}.
struct BatchLine {
  std::int64_t number = 0;  // from 1
  std::string custom_id;    // empty: the line holds none
  server::HttpRequest request;
  std::string problem;  // why the line is no request; empty: it is one
};

/// Reads all lines that are not empty; one that cannot be used has its problem, also where its custom_id
/// stood before. Throws std::runtime_error where the file cannot be read.
std::vector<BatchLine> read_batch(const std::string& path);

/// The result of a request that was answered, with whatever status.
nlohmann::ordered_json batch_result(const BatchLine& line, const server::HttpResponse& response);
/// Of a line that is no request.
nlohmann::ordered_json batch_problem(const BatchLine& line);

/// The results, appended line by line, each whole line written at once.
class BatchOutput {
 public:
  /// Goes on with a file that is there: a last line that was cut off is removed. Throws std::runtime_error
  /// naming file and line where one is no result.
  explicit BatchOutput(const std::string& path);
  /// Whether the file held the line's result at the start.
  bool holds(const BatchLine& line) const;
  /// Throws std::runtime_error where the disk does not take it.
  void append(const nlohmann::ordered_json& result);

 private:
  std::string path_;
  std::set<std::string> custom_ids_;
  std::set<std::int64_t> problem_lines_;
  FileHandle file_;
};

}  // namespace redline
