#include "tools/load/workload.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>

namespace redline::load {
namespace {

/// A file that goes with the object.
class Lines {
 public:
  explicit Lines(const std::string& text)
      : path_(std::filesystem::path(::testing::TempDir()) / ("redline_load_" + std::to_string(::getpid()))) {
    std::ofstream(path_) << text;
  }
  ~Lines() { std::filesystem::remove(path_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Lengths, UniformOnesReachBothEndsAndNoFurther) {
  std::mt19937_64 random(1);
  std::set<std::int64_t> found;
  for (int i = 0; i < 2000; ++i) found.insert(Lengths::parse("uniform:3:9").draw(random));
  EXPECT_EQ(found, (std::set<std::int64_t>{3, 4, 5, 6, 7, 8, 9}));
}

TEST(Lengths, LogNormalOnesHaveTheMeanAndDeviationThatAreNamed) {
  std::mt19937_64 random(2);
  double sum = 0, squares = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const auto length = static_cast<double>(Lengths::parse("lognormal:400:150").draw(random));
    sum += length;
    squares += length * length;
  }
  const double mean = sum / kCount;
  EXPECT_NEAR(mean, 400, 4);
  EXPECT_NEAR(std::sqrt(squares / kCount - mean * mean), 150, 6);
}

TEST(Lengths, WhatIsNoLengthIsRefusedWithItsText) {
  EXPECT_EQ(Lengths::parse("17").first, 17);
  for (const char* text : {"", "0", "-3", "1.5", "x", "12x", "uniform:5", "uniform:9:3", "uniform:0:3",
                           "lognormal:0:1", "lognormal:5:-1", "uniform:1:2:3", "nan", "inf", "1e30"})
    EXPECT_NE(message_of([&] { Lengths::parse(text); }).find("'" + std::string(text) + "' is no length"),
              std::string::npos)
        << text;
}

WorkloadOptions options_for(std::size_t count) {
  WorkloadOptions options;
  options.num_requests = count;
  options.input = Lengths::parse("uniform:2:7");
  options.output = Lengths::parse("5");
  options.num_units = 50;
  options.seed = 9;
  return options;
}

TEST(Workload, RequestsOfOnePrefixShareItAndNothingElse) {
  WorkloadOptions options = options_for(60);
  options.prefix_units = 11;
  options.num_prefixes = 2;
  std::set<std::vector<std::int32_t>> prefixes, rests;
  for (const LoadRequest& request : random_workload(options)) {
    ASSERT_EQ(request.num_shared, 11u);
    ASSERT_GE(request.units.size(), 13u);
    ASSERT_LE(request.units.size(), 18u);
    for (const std::int32_t unit : request.units) ASSERT_TRUE(unit >= 0 && unit < 50);
    prefixes.emplace(request.units.begin(), request.units.begin() + 11);
    rests.emplace(request.units.begin() + 11, request.units.end());
    EXPECT_EQ(request.output_tokens, 5);
  }
  EXPECT_EQ(prefixes.size(), 2u);
  EXPECT_GT(rests.size(), 50u);
}

TEST(Workload, ATraceIsReplayedAtItsTimesWithItsLengthsAndSharedBlocks) {
  const Lines trace(R"({"timestamp": 27000, "input_length": 1200, "output_length": 5, "hash_ids": [4, 9, 2]})"
                    "\n\n"
                    R"({"timestamp": 30000, "input_length": 700, "output_length": 7, "hash_ids": [4, 8]})"
                    "\n"
                    R"({"timestamp": 30500, "input_length": 3, "output_length": 1})"
                    "\n");
  const auto requests = replayed_workload(trace.path(), 2, options_for(100));
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].send_at_s, 0);
  EXPECT_DOUBLE_EQ(requests[1].send_at_s, 1.5);
  EXPECT_DOUBLE_EQ(requests[2].send_at_s, 1.75);
  EXPECT_EQ(requests[0].units.size(), 1200u);
  EXPECT_EQ(requests[1].units.size(), 700u);
  EXPECT_EQ(requests[2].units.size(), 3u);
  EXPECT_EQ(requests[1].output_tokens, 7);
  const auto block = [](const LoadRequest& request, std::size_t first, std::size_t count) {
    return std::vector(request.units.begin() + static_cast<std::ptrdiff_t>(first),
                       request.units.begin() + static_cast<std::ptrdiff_t>(first + count));
  };
  EXPECT_EQ(block(requests[0], 0, 512), block(requests[1], 0, 512));
  EXPECT_NE(block(requests[0], 512, 188), block(requests[1], 512, 188));
  EXPECT_EQ(replayed_workload(trace.path(), 1, options_for(2)).size(), 2u);
}

TEST(Workload, ABrokenTraceIsRefusedByFileLineAndField) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "holds no request"},
      {"{\"timestamp\": 1, \"input_length\": 2, \"output_length\": 2}\nnot JSON\n",
       "line 2: expected a JSON object"},
      {"[1]", "line 1: expected a JSON object"},
      {"{\"input_length\": 2, \"output_length\": 2}", "line 1: timestamp"},
      {"{\"timestamp\": 1, \"input_length\": 0, \"output_length\": 2}", "line 1: input_length"},
      {"{\"timestamp\": 1, \"input_length\": 1e12, \"output_length\": 2}", "input_length: expected at most"},
      {"{\"timestamp\": 1, \"input_length\": 2, \"output_length\": \"2\"}", "line 1: output_length"},
      {"{\"timestamp\": 5, \"input_length\": 2, \"output_length\": 2}\n"
       "{\"timestamp\": 4, \"input_length\": 2, \"output_length\": 2}",
       "line 2: its timestamp"},
      {"{\"timestamp\": 1, \"input_length\": 2, \"output_length\": 2, \"hash_ids\": [\"a\"]}", "hash_ids"}};
  for (const auto& [text, expected] : cases) {
    const Lines trace(text);
    const std::string message = message_of([&] { replayed_workload(trace.path(), 1, options_for(10)); });
    EXPECT_EQ(message.find(trace.path() + ": "), 0u) << message;
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  }
  EXPECT_NE(message_of([&] { replayed_workload("no-such-file", 1, options_for(1)); }).find("no-such-file: "),
            std::string::npos);
}

TEST(Workload, ADatasetIsAskedInOrderAndBegunAgain) {
  const Lines dataset(
      "{\"prompt\": \"one\", \"output_tokens\": 3}\n{\"messages\": [{\"role\": \"user\"}]}\n");
  const auto requests = dataset_workload(dataset.path(), options_for(5));
  ASSERT_EQ(requests.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(requests[i].text, i % 2 == 0 ? "one" : "");
    EXPECT_EQ(requests[i].messages.is_null(), i % 2 == 0);
    EXPECT_EQ(requests[i].output_tokens, i % 2 == 0 ? 3 : 5);
  }
  const Lines broken("{\"prompt\": 3}\n");
  EXPECT_NE(
      message_of([&] { dataset_workload(broken.path(), options_for(1)); }).find("line 1: expected a prompt"),
      std::string::npos);
}

TEST(Workload, EachUnitIsOneWord) {
  std::vector<std::int32_t> units(static_cast<std::size_t>(num_words()));
  for (std::int32_t i = 0; i < num_words(); ++i) units[static_cast<std::size_t>(i)] = i;
  std::istringstream text(as_words(units));
  std::set<std::string> words;
  for (std::string word; text >> word;) words.insert(word);
  EXPECT_EQ(words.size(), units.size());
  EXPECT_EQ(as_words(std::vector{num_words()}), as_words(std::vector{0}));
}

}  // namespace
}  // namespace redline::load
