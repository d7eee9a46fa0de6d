// Whole models through CudaOps, host side included: against transformers' logits and tokens where activations
// are f32, close to them where they are bf16. Linked to the emulation this runs anywhere; linked to the
// backend, on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/architecture.h"
#include "engine/engine.h"
#include "engine/evaluate.h"
#include "kernels/cuda_ops.h"
#include "tests/engine/golden.h"

namespace redline {
namespace {

// Where the models lie: in the checkout, or on a machine without one where REDLINE_TINY_MODELS says.
std::filesystem::path tiny_models_folder() {
  const char* folder = std::getenv("REDLINE_TINY_MODELS");
  return folder != nullptr ? std::filesystem::path(folder) : kGoldens / "tiny";
}

std::shared_ptr<LoadedModel> open_on_cuda(const std::string& path, std::optional<DType> dtype,
                                          DType activation, bool graphs = true) {
  ModelOptions options;
  options.dtype = dtype;
  options.make_ops = [=] {
    CudaOptions cuda;
    cuda.activation_dtype = activation;
    cuda.graphs = graphs;
    return make_cuda_ops(cuda);
  };
  return LoadedModel::open(path, options);
}

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(tiny_models_folder()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class CudaModelTest : public testing::TestWithParam<std::string> {
 protected:
  /// Errors of the logits at every position in units of the position's standard deviation.
  struct Errors {
    double worst = 0, mean = 0;
  };
  Errors errors(LoadedModel& model, DType kv_dtype) {
    const auto expected = read_npy<float>(folder_ / "logits.npy", "<f4");
    const std::vector<std::int32_t> tokens = golden_["token_ids"];
    EXPECT_EQ(expected.rows, std::ssize(tokens));
    EvaluateOptions options;
    options.kv_dtype = kv_dtype;
    options.chunk_tokens = 37;
    Errors errors;
    for_each_logits(model, tokens, options, [&](std::int64_t t, std::span<const float> logits) {
      const auto row = expected.row(t);
      const double deviation = standard_deviation(row);
      for (std::size_t i = 0; i < row.size(); ++i) {
        const double error = std::abs(static_cast<double>(logits[i]) - row[i]) / deviation;
        if (!(error <= errors.worst)) errors.worst = error;  // also where it is not a number
        errors.mean += error / static_cast<double>(expected.values.size());
      }
    });
    return errors;
  }

  std::vector<std::int32_t> generate(std::shared_ptr<LoadedModel> model, DType kv_dtype,
                                     std::int32_t num_tokens) {
    EngineOptions options;
    options.kv_dtype = kv_dtype;
    options.max_sequences = 4;
    options.max_context = std::ssize(golden_["prompt_token_ids"]) + num_tokens;  // which longrope asks
    Engine engine(std::move(model), options);
    Request request;
    request.prompt = golden_["prompt_token_ids"].get<std::vector<std::int32_t>>();
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

  std::filesystem::path folder_ = tiny_models_folder() / GetParam();
  nlohmann::json golden_ = read_golden_json(folder_ / "golden.json");
  std::string model_ = (exists(folder_ / "model.gguf") ? folder_ / "model.gguf" : folder_).string();
};

TEST_P(CudaModelTest, GivesTransformersLogitsInF32) {
  // What quantised directories are held as rounds their values a little: exact mode does not.
  const bool rounded = GetParam().starts_with("quantized_");
  const auto model = open_on_cuda(model_, rounded ? std::optional(DType::kF32) : std::nullopt, DType::kF32);
  const Errors e = errors(*model, DType::kF32);
  EXPECT_LE(e.worst, 1e-3);
}

TEST_P(CudaModelTest, StaysCloseToThemInBf16) {
  const auto model = open_on_cuda(model_, {}, DType::kBF16);
  const Errors e = errors(*model, DType::kBF16);
  RecordProperty("worst", std::to_string(e.worst));
  RecordProperty("mean", std::to_string(e.mean));
  EXPECT_LE(e.worst, 0.4);
  EXPECT_LE(e.mean, 0.025);
}

TEST_P(CudaModelTest, GeneratesTransformersGreedyTokensInF32) {
  const std::vector<std::int32_t> expected = golden_["greedy_token_ids"];
  const auto num_tokens = static_cast<std::int32_t>(expected.size());
  for (const bool graphs : {false, true}) {
    SCOPED_TRACE(graphs ? "decode steps replayed" : "eager");
    const auto model = open_on_cuda(model_, {}, DType::kF32, graphs);
    EXPECT_EQ(generate(model, DType::kF32, num_tokens), expected);
  }
}

TEST(CudaModel, TheModelsAreOfEveryArchitectureThatLoads) {
  std::string names = hf_architecture_names() + ",";
  for (const std::string& model : tiny_models()) {
    const auto path = tiny_models_folder() / model;
    if (!exists(path / "config.json")) continue;
    const std::string name = read_golden_json(path / "config.json")["model_type"].get<std::string>() + ",";
    if (const auto at = names.find(name); at != std::string::npos) names.erase(at, name.size());
  }
  EXPECT_EQ(names.find_first_not_of(' '), std::string::npos) << "none of " << names;
}

INSTANTIATE_TEST_SUITE_P(Goldens, CudaModelTest, testing::ValuesIn(tiny_models()),
                         [](const auto& model) { return model.param; });

}  // namespace
}  // namespace redline
