#include "tools/load/workload.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <utility>

namespace redline::load {
namespace {

constexpr std::size_t kUnitsPerHash = 512;  // Mooncake's blocks

constexpr const char* kWords[] = {
    "the",     "of",     "and",     "to",     "in",     "is",    "that",    "for",     "it",    "as",
    "with",    "was",    "on",      "be",     "by",     "at",    "are",     "this",    "from",  "or",
    "have",    "an",     "they",    "which",  "one",    "you",   "were",    "all",     "her",   "she",
    "there",   "would",  "their",   "we",     "him",    "been",  "has",     "when",    "who",   "will",
    "no",      "more",   "if",      "out",    "so",     "up",    "said",    "what",    "its",   "about",
    "than",    "into",   "them",    "can",    "only",   "other", "time",    "new",     "some",  "could",
    "these",   "two",    "may",     "first",  "then",   "do",    "any",     "like",    "my",    "now",
    "over",    "such",   "our",     "man",    "me",     "even",  "most",    "made",    "after", "also",
    "well",    "before", "must",    "years",  "back",   "much",  "where",   "way",     "down",  "should",
    "because", "long",   "each",    "just",   "state",  "those", "people",  "how",     "too",   "little",
    "good",    "world",  "make",    "very",   "year",   "still", "see",     "work",    "life",  "here",
    "get",     "both",   "between", "own",    "under",  "never", "same",    "another", "know",  "while",
    "last",    "might",  "us",      "great",  "old",    "go",    "off",     "come",    "since", "right",
    "used",    "take",   "three",   "small",  "find",   "part",  "place",   "point",   "home",  "water",
    "house",   "hand",   "school",  "system", "number", "group", "problem", "fact",    "night", "again"};

/// `path`'s lines that are not empty, as JSON objects, in order.
class JsonLines {
 public:
  explicit JsonLines(const std::string& path) : path_(path), file_(path) {
    if (!file_) throw std::runtime_error(path + ": cannot be read");
  }
  /// False at the end.
  bool next(Json& object) {
    std::string line;
    while (std::getline(file_, line)) {
      ++number_;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!object.is_object()) fail("expected a JSON object");
      return true;
    }
    return false;
  }
  double number(const Json& object, const char* key, double low) const {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number() || !(found->get<double>() >= low) ||
        found->get<double>() > 1e15)
      fail(std::string(key) + ": expected a number from " + std::to_string(static_cast<int>(low)));
    return found->get<double>();
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw std::runtime_error(path_ + ": line " + std::to_string(number_) + ": " + problem);
  }

 private:
  std::string path_;
  std::ifstream file_;
  int number_ = 0;
};

void add_units(std::vector<std::int32_t>& units, std::size_t count, std::int32_t num_units,
               std::mt19937_64& random) {
  std::uniform_int_distribution<std::int32_t> unit(0, num_units - 1);
  for (std::size_t i = 0; i < count; ++i) units.push_back(unit(random));
}

}  // namespace

std::vector<LoadRequest> random_workload(const WorkloadOptions& options) {
  std::mt19937_64 random(options.seed);
  const auto times = arrival_times(options.arrivals, options.num_requests, options.seed + 1);
  std::vector<std::vector<std::int32_t>> prefixes(static_cast<std::size_t>(options.num_prefixes));
  for (auto& prefix : prefixes)
    add_units(prefix, static_cast<std::size_t>(options.prefix_units), options.num_units, random);
  std::uniform_int_distribution<std::size_t> which(0, prefixes.size() - 1);
  std::vector<LoadRequest> requests;
  for (const double time : times) {
    LoadRequest& request = requests.emplace_back();
    request.send_at_s = time;
    request.units = prefixes[which(random)];
    request.num_shared = request.units.size();
    add_units(request.units, static_cast<std::size_t>(options.input.draw(random)), options.num_units, random);
    request.output_tokens = options.output.draw(random);
  }
  return requests;
}

std::vector<LoadRequest> replayed_workload(const std::string& path, double speed,
                                           const WorkloadOptions& options) {
  JsonLines lines(path);
  std::mt19937_64 random(options.seed);
  std::vector<LoadRequest> requests;
  Json row;
  double first_ms = 0, last_ms = 0;
  while (requests.size() < options.num_requests && lines.next(row)) {
    const double at_ms = lines.number(row, "timestamp", 0);
    if (requests.empty()) first_ms = last_ms = at_ms;
    if (at_ms < last_ms) lines.fail("its timestamp lies before the line before");
    last_ms = at_ms;
    LoadRequest& request = requests.emplace_back();
    request.send_at_s = (at_ms - first_ms) / 1000 / speed;
    const auto length = static_cast<std::size_t>(lines.number(row, "input_length", 1));
    if (length > (1u << 24)) lines.fail("input_length: expected at most 16777216");
    request.output_tokens = static_cast<std::int64_t>(lines.number(row, "output_length", 1));
    for (const Json& hash : row.value("hash_ids", Json::array())) {
      if (!hash.is_number_integer()) lines.fail("hash_ids: expected integers");
      if (request.units.size() >= length) break;
      std::mt19937_64 block(options.seed ^ (hash.get<std::uint64_t>() * 0x9e3779b97f4a7c15u));
      add_units(request.units, std::min(kUnitsPerHash, length - request.units.size()), options.num_units,
                block);
    }
    add_units(request.units, length - request.units.size(), options.num_units, random);
  }
  if (requests.empty()) throw std::runtime_error(path + ": holds no request");
  return requests;
}

std::vector<LoadRequest> dataset_workload(const std::string& path, const WorkloadOptions& options) {
  JsonLines lines(path);
  std::mt19937_64 random(options.seed);
  std::vector<LoadRequest> prompts;
  for (Json row; lines.next(row);) {
    LoadRequest& request = prompts.emplace_back();
    if (row.contains("messages") && row["messages"].is_array())
      request.messages = row["messages"];
    else if (row.contains("prompt") && row["prompt"].is_string())
      request.text = row["prompt"].get<std::string>();
    else
      lines.fail("expected a prompt, a string, or messages, an array");
    request.output_tokens = row.contains("output_tokens")
                                ? static_cast<std::int64_t>(lines.number(row, "output_tokens", 1))
                                : options.output.draw(random);
  }
  if (prompts.empty()) throw std::runtime_error(path + ": holds no prompt");
  std::vector<LoadRequest> requests;
  for (const double time : arrival_times(options.arrivals, options.num_requests, options.seed + 1)) {
    requests.push_back(prompts[requests.size() % prompts.size()]);
    requests.back().send_at_s = time;
  }
  return requests;
}

std::string as_words(std::span<const std::int32_t> units) {
  std::string text;
  for (const std::int32_t unit : units) {
    if (!text.empty()) text += ' ';
    text += kWords[unit % num_words()];
  }
  return text;
}

std::int32_t num_words() { return static_cast<std::int32_t>(std::size(kWords)); }

}  // namespace redline::load
