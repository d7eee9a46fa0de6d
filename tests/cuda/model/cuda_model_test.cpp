// Whole models through CudaOps, host side included: against transformers' logits and tokens where activations
// are f32, close to them where they are bf16. Linked to the emulation this runs anywhere; linked to the
// backend, on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "engine/architecture.h"
#include "engine/engine.h"
#include "engine/evaluate.h"
#include "engine/sampler.h"
#include "kernels/convert.h"
#include "kernels/cuda_ops.h"
#include "tests/engine/golden.h"
#include "tests/engine/tiny_model.h"

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

// Tokens and logprobs of `num_sequences` that decode together from some point on. The engine is held until it
// has them all, so that steps are made of the same rows each time: kernels for few rows and for many differ
// in bits.
std::vector<std::pair<std::int32_t, float>> decode_together(std::int32_t num_sequences, bool graphs) {
  const auto model = std::make_shared<LoadedModel>();
  model->config = tiny_config();
  CudaOptions cuda;
  cuda.graphs = graphs;
  model->ops = make_cuda_ops(cuda);
  model->weights =
      std::make_unique<ModelWeights>(random_weights(model->config, DType::kBF16, *model->ops, 7));
  EngineOptions options;
  options.max_context = 64;
  std::atomic<bool> holds = false, may_go_on = false;
  Engine engine(model, options);
  Request holding;
  holding.prompt = random_tokens(3, 99, model->config.vocab_size);
  holding.sampling.max_tokens = 1;
  const auto held = engine.submit(holding, [&] {
    holds = true;
    holds.notify_all();
    may_go_on.wait(false);
  });
  holds.wait(false);
  std::vector<std::unique_ptr<Stream>> streams;
  for (std::int32_t i = 0; i < num_sequences; ++i) {
    Request request;
    request.prompt = random_tokens(3 + i % 5, static_cast<std::uint32_t>(i), model->config.vocab_size);
    request.sampling.max_tokens = 6;
    request.sampling.num_logprobs = 0;
    streams.push_back(engine.submit(request));
  }
  may_go_on = true;
  may_go_on.notify_all();
  std::vector<std::pair<std::int32_t, float>> tokens;
  for (const auto& stream : streams)
    while (const auto event = stream->next()) {
      EXPECT_EQ(event->error, "");
      for (const auto& token : event->logprobs) tokens.emplace_back(token[0].token, token[0].logprob);
    }
  return tokens;
}

TEST(CudaModel, PaddedStepsThatAreReplayedAreThoseWithoutPaddingBitForBit) {
  for (const std::int32_t size : {1, 2, 4, 8, 16})
    for (const std::int32_t num_sequences : {size - 1, size, size + 1}) {
      if (num_sequences < 1) continue;
      const auto eager = decode_together(num_sequences, false);
      EXPECT_EQ(eager.size(), static_cast<std::size_t>(6 * num_sequences));
      EXPECT_EQ(decode_together(num_sequences, true), eager) << num_sequences << " sequences";
    }
}

TEST(CudaModel, TellsAPromptsLogprobsWithoutItsLogits) {
  const auto model = std::make_shared<LoadedModel>();
  model->config = tiny_config();
  CudaOptions cuda;
  cuda.activation_dtype = DType::kF32;
  model->ops = make_cuda_ops(cuda);
  model->weights = std::make_unique<ModelWeights>(random_weights(model->config, DType::kF32, *model->ops, 7));
  const std::vector<std::int32_t> prompt = random_tokens(60, 5, model->config.vocab_size);
  std::vector<std::vector<TokenLogprob>> expected;
  for_each_logits(*model, prompt, {.kv_dtype = DType::kF32}, [&](std::int64_t t, std::span<const float> row) {
    const auto next = static_cast<std::size_t>(t + 1);
    if (next < prompt.size()) expected.push_back(logprobs_of(row, prompt[next], 2));
  });
  EngineOptions options;
  options.kv_dtype = DType::kF32;
  options.max_batched_tokens = 25;
  options.max_context = 100;
  Engine engine(model, options);
  Request request;
  request.prompt = prompt;
  request.sampling.max_tokens = 3;
  request.sampling.num_prompt_logprobs = 2;
  const auto stream = engine.submit(request);
  const auto event = stream->next();
  ASSERT_TRUE(event);
  ASSERT_EQ(event->prompt_logprobs.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(event->prompt_logprobs[i].size(), 3u);
    for (std::size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(event->prompt_logprobs[i][k].token, expected[i][k].token);
      EXPECT_NEAR(event->prompt_logprobs[i][k].logprob, expected[i][k].logprob, 1e-4);
    }
  }
}

TEST(CudaModel, KeepsPackedTypesInTheBytesOfTheirFiles) {
  constexpr std::int64_t kRows = 37, kCols = 512;
  const auto ops = make_cuda_ops({});
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 0.5f);
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ6_K}) {
    SCOPED_TRACE(name(dtype));
    const auto row_size = static_cast<std::size_t>(row_bytes(dtype, kCols));
    std::vector<std::byte> rows(kRows * row_size);
    std::vector<float> values(kRows * kCols), row(kCols);
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (float& value : row) value = normal(random);
      std::byte* const packed = rows.data() + static_cast<std::size_t>(i) * row_size;
      quantize_row(dtype, row.data(), kCols, packed);
      dequantize_row(dtype, packed, kCols, values.data() + i * kCols);
    }
    const PackedMatrix matrix =
        ops->pack({.dtype = dtype, .rows = kRows, .cols = kCols, .row = [&](std::int64_t i) {
                     return rows.data() + static_cast<std::size_t>(i) * row_size;
                   }});
    EXPECT_EQ(matrix.view.dtype, dtype);
    EXPECT_EQ(matrix.view.type_bytes, std::ssize(rows));
    EXPECT_LT(matrix.view.stored_bytes, std::ssize(rows) + 4 * 256) << "but for alignment";
    EXPECT_EQ(ops->packed_bytes(dtype, kRows, kCols), matrix.view.stored_bytes);
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{17}, kRows - 1}) {
      ops->unpack_row(matrix.view, i, row.data());
      EXPECT_EQ(row, std::vector<float>(values.begin() + i * kCols, values.begin() + (i + 1) * kCols));
    }
  }
}

// Steps of one row, of tens and of many: every kernel of packed matrices, and products on unpacked ones.
TEST(CudaModel, RunsOnPackedKTypesAsInDoublePrecision) {
  ModelConfig config = tiny_config();
  config.hidden_size = 256;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = config.rotary_dim = 64;
  config.ffn_size = 512;
  const std::vector<std::int32_t> tokens = random_tokens(150, 5, config.vocab_size);
  for (const DType dtype : {DType::kQ4_K, DType::kQ6_K})
    for (const std::int32_t chunk : {1, 45, 70, 140}) {
      SCOPED_TRACE(testing::Message() << name(dtype) << ", chunks of " << chunk);
      const auto logits = [&](std::unique_ptr<Ops> ops, DType kv_dtype) {
        LoadedModel model;
        model.config = config;
        model.ops = std::move(ops);
        model.weights = std::make_unique<ModelWeights>(random_weights(config, dtype, *model.ops, 7));
        EvaluateOptions options;
        options.kv_dtype = kv_dtype;
        options.chunk_tokens = chunk;
        std::vector<float> all;
        for_each_logits(
            model, std::span(tokens).first(chunk == 1 ? 4 : tokens.size()), options,
            [&](std::int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
        return all;
      };
      const std::vector<float> want = logits(make_reference_ops(), DType::kF32);
      const double deviation = standard_deviation(want);
      for (const DType activation : {DType::kF32, DType::kBF16}) {
        CudaOptions cuda;
        cuda.activation_dtype = activation;
        const std::vector<float> got = logits(make_cuda_ops(cuda), activation);
        ASSERT_EQ(got.size(), want.size());
        double worst = 0;
        for (std::size_t i = 0; i < want.size(); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]) / deviation);
        EXPECT_LE(worst, activation == DType::kF32 ? 1e-4 : 0.2);
        EXPECT_GT(worst, 0);
      }
    }
}

// Kernels that the environment asks for: right, and others than without it, as the order of sums tells.
void expect_right_where_asked(const char* variable, const char* kernel, std::int64_t hidden_size,
                              std::size_t num_tokens, std::int32_t chunk_tokens) {
  ModelConfig config = tiny_config();
  config.hidden_size = hidden_size;
  config.ffn_size = 200;
  const std::vector<std::int32_t> tokens = random_tokens(num_tokens, 5, config.vocab_size);
  const auto logits = [&](std::unique_ptr<Ops> ops, DType kv_dtype) {
    LoadedModel model;
    model.config = config;
    model.ops = std::move(ops);
    model.weights = std::make_unique<ModelWeights>(random_weights(config, DType::kBF16, *model.ops, 7));
    std::vector<float> all;
    for_each_logits(
        model, tokens, {.kv_dtype = kv_dtype, .chunk_tokens = chunk_tokens},
        [&](std::int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
    return all;
  };
  const std::vector<float> want = logits(make_reference_ops(), DType::kF32);
  const std::vector<float> plain = logits(make_cuda_ops({}), DType::kBF16);
  ::setenv(variable, kernel, 1);
  const std::vector<float> got = logits(make_cuda_ops({}), DType::kBF16);
  ::unsetenv(variable);
  ASSERT_EQ(got.size(), want.size());
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]) / standard_deviation(want));
  EXPECT_LE(worst, 0.2);
  EXPECT_NE(got, plain);
}

TEST(CudaModel, RunsOnSkinnyProductsOfWgmmaWhereAsked) {
  expect_right_where_asked("REDLINE_CUDA_SKINNY", "wgmma", 136, 70, 35);
}

TEST(CudaModel, StreamsWeightsThroughTheRingWhereAsked) {
  expect_right_where_asked("REDLINE_CUDA_GEMV", "ring", 1096, 5, 1);
  expect_right_where_asked("REDLINE_CUDA_GEMV", "ring-norm", 1096, 5, 1);
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
