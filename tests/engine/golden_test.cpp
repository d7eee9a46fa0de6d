// Whole models against Hugging Face transformers in fp32 (tests/goldens/README.md): logits in exact mode, at
// every position, and greedy generation token for token.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/evaluate.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/golden.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

constexpr double kTolerance = 1e-3;  // of the position's standard deviation over the vocabulary

std::shared_ptr<LoadedModel> open_exact(const std::string& path, const std::string& isa = {}) {
  ModelOptions options;
  options.dtype = DType::kF32;
  options.cpu.isa = isa;
  return LoadedModel::open(path, options);
}

class WorstError {
 public:
  void add(double found, double expected) {
    const double error = std::abs(found - expected);
    if (!(error <= worst_) && !std::isnan(worst_)) worst_ = error;
  }
  /// NaN if any value was.
  double worst() const { return worst_; }

 private:
  double worst_ = 0;
};

std::vector<std::int32_t> generate(const std::shared_ptr<LoadedModel>& model,
                                   std::vector<std::int32_t> prompt, std::int32_t num_tokens) {
  EngineOptions options;
  options.kv_dtype = DType::kF32;
  options.max_context = std::ssize(prompt) + num_tokens;  // which longrope asks
  Engine engine(model, options);
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = num_tokens;
  request.sampling.ignore_eos = true;
  std::vector<std::int32_t> tokens;
  const auto stream = engine.submit(request);
  while (const auto event = stream->next()) {
    EXPECT_EQ(event->error, "");
    tokens.insert(tokens.end(), event->token_ids.begin(), event->token_ids.end());
  }
  return tokens;
}

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens / "tiny"))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class TinyModelTest : public testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path folder_ = kGoldens / "tiny" / GetParam();
  nlohmann::json golden_ = read_golden_json(folder_ / "golden.json");
  std::string model_ = (exists(folder_ / "model.gguf") ? folder_ / "model.gguf" : folder_).string();
};

TEST_P(TinyModelTest, GivesTransformersLogitsAtEveryPosition) {
  const auto expected = read_npy<float>(folder_ / "logits.npy", "<f4");
  const std::vector<std::int32_t> tokens = golden_["token_ids"];
  ASSERT_EQ(expected.rows, std::ssize(tokens));
  for (const char* isa : {"", "portable"}) {
    const auto model = open_exact(model_, isa);
    ASSERT_EQ(expected.cols, model->config.vocab_size);
    EvaluateOptions options;
    options.kv_dtype = DType::kF32;
    options.chunk_tokens = 37;
    for_each_logits(*model, tokens, options, [&](std::int64_t t, std::span<const float> logits) {
      const auto row = expected.row(t);
      WorstError error;
      for (std::size_t i = 0; i < row.size(); ++i) error.add(logits[i], row[i]);
      EXPECT_LE(error.worst(), kTolerance * standard_deviation(row))
          << model->ops->name() << ", position " << t;
    });
    if (HasFailure()) return;
  }
}

TEST_P(TinyModelTest, GeneratesTransformersGreedyTokens) {
  const std::vector<std::int32_t> expected = golden_["greedy_token_ids"];
  EXPECT_EQ(
      generate(open_exact(model_), golden_["prompt_token_ids"], static_cast<std::int32_t>(expected.size())),
      expected);
}

INSTANTIATE_TEST_SUITE_P(Goldens, TinyModelTest, testing::ValuesIn(tiny_models()),
                         [](const auto& model) { return model.param; });

class SmolLm2Test : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = open_exact(real_model_path()); }
  static void TearDownTestSuite() { model_.reset(); }
  static std::shared_ptr<LoadedModel> model_;
  const std::filesystem::path folder_ = kGoldens / "smollm2";
  const nlohmann::json golden_ = read_golden_json(folder_ / "golden.json");
};
std::shared_ptr<LoadedModel> SmolLm2Test::model_;

TEST_F(SmolLm2Test, GivesTransformersLogitsAtEveryPositionOfAText) {
  const auto sample = read_npy<float>(folder_ / "sample_logits.npy", "<f4");
  const auto top_ids = read_npy<std::int32_t>(folder_ / "top_ids.npy", "<i4");
  const auto top_logits = read_npy<float>(folder_ / "top_logits.npy", "<f4");
  const auto summary = read_npy<float>(folder_ / "summary.npy", "<f4");  // log-sum-exp, mean, deviation
  const std::vector<std::size_t> sample_ids = golden_["sample_ids"];
  const std::vector<std::int32_t> tokens = golden_["token_ids"];
  ASSERT_EQ(tokens.size(), 500u);
  ASSERT_EQ(sample.rows, std::ssize(tokens));
  EvaluateOptions options;
  options.kv_dtype = DType::kF32;
  for_each_logits(*model_, tokens, options, [&](std::int64_t t, std::span<const float> logits) {
    WorstError error;
    for (std::size_t i = 0; i < sample_ids.size(); ++i) error.add(logits[sample_ids[i]], sample.row(t)[i]);
    for (std::size_t i = 0; i < top_ids.row(t).size(); ++i)
      error.add(logits[static_cast<std::size_t>(top_ids.row(t)[i])], top_logits.row(t)[i]);
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0, mean = 0;
    for (const float v : logits) sum += std::exp(v - largest), mean += v;
    error.add(largest + std::log(sum), summary.row(t)[0]);
    error.add(mean / static_cast<double>(logits.size()), summary.row(t)[1]);
    error.add(standard_deviation(logits), summary.row(t)[2]);
    EXPECT_LE(error.worst(), kTolerance * summary.row(t)[2]) << "position " << t;
  });
}

TEST_F(SmolLm2Test, GeneratesTransformersGreedyTokens) {
  const std::vector<std::int32_t> expected = golden_["greedy_token_ids"];
  ASSERT_EQ(expected.size(), 200u);
  EXPECT_EQ(generate(model_, golden_["prompt_token_ids"], 200), expected);
}

}  // namespace
}  // namespace redline
