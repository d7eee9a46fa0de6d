// Models written as GGUF files and read again: the same logits, the same keys, or a refusal by name.
#include "engine/gguf_export.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/engine.h"
#include "engine/evaluate.h"
#include "engine/gguf.h"
#include "engine/model_file_error.h"
#include "engine/model_shapes.h"
#include "tests/engine/golden.h"
#include "tests/engine/model_files.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

/// Logits in exact mode.
std::vector<float> exact_logits(const std::string& model_path) {
  ModelOptions options;
  options.dtype = DType::kF32;
  const auto model = LoadedModel::open(model_path, options);
  EvaluateOptions evaluate;
  evaluate.kv_dtype = DType::kF32;
  std::vector<float> all;
  for_each_logits(*model, random_tokens(40, 1, model->config.vocab_size), evaluate,
                  [&](std::int64_t, std::span<const float> logits) {
                    all.insert(all.end(), logits.begin(), logits.end());
                  });
  return all;
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  const double allowed = tolerance * standard_deviation(expected);
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
  EXPECT_LE(worst, allowed);
}

std::string error_of_export(const std::string& model, const std::filesystem::path& out,
                            const ExportOptions& options = {}) {
  try {
    export_gguf(Checkpoint(model), out, options);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Of every architecture, every rotary scaling, fused and quantised files: those that a GGUF can say.
class ExportTest : public testing::TestWithParam<const char*> {};

TEST_P(ExportTest, GivesTheSameLogitsFromTheFileItWrites) {
  const TemporaryDirectory directory;
  const auto source = kGoldens / "tiny" / GetParam();
  const auto path = directory.path() / "out.gguf";
  export_gguf(Checkpoint(source.string()), path, {.dtype = {}, .num_threads = 2, .progress = {}});
  // Matrices whose groups have zeros of their own are q4_1 in the file, those in act order f16: rounded.
  const bool rounded = std::string(GetParam()).find("awq") != std::string::npos ||
                       std::string(GetParam()).find("asymmetric") != std::string::npos ||
                       std::string(GetParam()).find("act_order") != std::string::npos;
  expect_near(exact_logits(path.string()), exact_logits(source.string()), rounded ? 0.03 : 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ExportTest,
                         testing::Values("plain_9to3_d32_bf16_tied", "plain_7to1_d64_f16_odd",
                                         "linear_8to2_d96_bf16", "llama3_8to2_d32_bf16_sharded",
                                         "yarn_9to3_d64_bf16_tied", "yarn_factor_4to4_d32_f32",
                                         "mistral_9to3_window19_bf16", "qwen2_9to3_bf16", "qwen3_9to3_bf16",
                                         "smollm3_9to3_bf16_tied", "phi3_9to3_longrope_long_bf16",
                                         "phi3_4to2_window23_bf16", "granite_7to1_f16_tied",
                                         "olmo2_9to3_bf16", "quantized_gptq_4to2",
                                         "quantized_gptq_asymmetric_qwen2_4to2_tied",
                                         "quantized_gptq_act_order_v2_4to2", "quantized_awq_4to2"),
                         [](const auto& model) { return std::string(model.param); });

TEST(GgufExport, RefusesByNameWhatAGgufCannotSay) {
  const TemporaryDirectory directory;
  const auto error = [&](const char* model) {
    return error_of_export((kGoldens / "tiny" / model).string(), directory.path() / "out.gguf");
  };
  EXPECT_NE(error("qwen3_upper_window_4to2_bf16").find("layer 1: expected one window for all layers"),
            std::string::npos)
      << error("qwen3_upper_window_4to2_bf16");
  EXPECT_NE(
      error("smollm3_listed_7to1_f16").find("layer 0: expected the rotation that the architecture implies"),
      std::string::npos)
      << error("smollm3_listed_7to1_f16");
  EXPECT_NE(error("yarn_parameters_2to1_d80_bf16").find("rope_scaling"), std::string::npos);
  EXPECT_NE(
      error("quantized_fp8_tensor_4to2").find("expected a type of GGUF's (--dtype q8_0), found f8_e4m3"),
      std::string::npos)
      << error("quantized_fp8_tensor_4to2");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path())) << "nothing is left of a file that failed";
}

TEST(GgufExport, StoresMatricesInTheTypeAskedFor) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "out.gguf";
  const auto source = (kGoldens / "tiny" / "quantized_fp8_tensor_4to2").string();
  export_gguf(Checkpoint(source), path, {.dtype = DType::kQ8_0, .num_threads = 2, .progress = {}});
  const GgufFile file(path);
  for (const FileTensor& tensor : file.tensors())
    EXPECT_EQ(tensor.dtype, tensor.shape.size() == 2 ? DType::kQ8_0 : DType::kF32) << tensor.name;
  EXPECT_EQ(file.find_int("general.file_type"), 7);
  EXPECT_EQ(
      error_of_export((kGoldens / "tiny" / "plain_7to1_d64_f16_odd").string(), path,
                      {.dtype = DType::kQ4_0, .num_threads = 1, .progress = {}})
              .find("expected rows of a multiple of 32 elements for q4_0, found 35") != std::string::npos,
      true);
  expect_near(exact_logits(path.string()), exact_logits(source), 0.1);  // the failed one replaced nothing
}

TEST(GgufExport, KeepsEveryKeyOfAGgufButThoseOfItsTypes) {
  const TemporaryDirectory directory;
  GgufWriter writer;
  writer.add_string("general.license", "mit");
  writer.add_u32("general.file_type", 0);
  writer.add_strings("general.tags", {"a", "", "b"});
  const auto source = kGoldens / "tiny" / "gguf_granite_4to2_q4_0_tied" / "model.gguf";
  const auto path = directory.path() / "out.gguf";
  export_gguf(Checkpoint(source.string()), path, {.dtype = DType::kBF16, .num_threads = 1, .progress = {}});
  const GgufFile before(source), after(path);
  std::size_t num_same = 0;
  for (const auto& [key, bytes] : before.raw_values())
    for (const auto& [new_key, new_bytes] : after.raw_values())
      num_same += key == new_key && std::ranges::equal(bytes, new_bytes);
  EXPECT_GE(num_same, before.num_keys() - 1) << "all but general.file_type";
  EXPECT_EQ(after.find_int("general.file_type"), 32);
  expect_near(exact_logits(path.string()), exact_logits(source.string()), 0.2);
}

TEST(GgufExport, WritesTheRandomWeightsThatTheEngineMakesItself) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "out.gguf";
  for (const DType dtype : {DType::kQ4_1, DType::kBF16}) {
    export_gguf(tiny_config(), 7, path, {.dtype = dtype, .num_threads = 1, .progress = {}});
    const Checkpoint checkpoint(path.string());
    EXPECT_FALSE(checkpoint.has_tokenizer());
    const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
    const ModelWeights loaded = load_weights(checkpoint, *ops),
                       made = random_weights(tiny_config(), dtype, *ops, 7);
    EXPECT_EQ(loaded.type_bytes, made.type_bytes);
    ASSERT_EQ(loaded.layers.size(), made.layers.size());
    const auto equal = [](const PackedMatrix& a, const PackedMatrix& b) {
      return a.view.stored_bytes == b.view.stored_bytes &&
             std::memcmp(a.view.data, b.view.data, static_cast<std::size_t>(a.view.stored_bytes)) == 0;
    };
    EXPECT_TRUE(equal(loaded.embedding, made.embedding));
    for (std::size_t i = 0; i < loaded.layers.size(); ++i) {
      EXPECT_TRUE(equal(loaded.layers[i].qkv[0], made.layers[i].qkv[0]))
          << "the rows of q and k in the engine's order";
      EXPECT_TRUE(equal(loaded.layers[i].down, made.layers[i].down));
    }
  }
}

TEST(GgufExport, LeavesNothingWhereTheFileCannotBeWritten) {
  const TemporaryDirectory directory;
  const auto source = (kGoldens / "tiny" / "qwen2_9to3_bf16").string();
  EXPECT_NE(
      error_of_export(source, directory.path() / "absent" / "out.gguf").find("No such file or directory"),
      std::string::npos);
  const ExportOptions interrupted{
      .dtype = {}, .num_threads = 1, .progress = [](std::int64_t done, std::int64_t total) {
        if (2 * done > total) throw std::runtime_error("stopped");
      }};
  EXPECT_EQ(error_of_export(source, directory.path() / "out.gguf", interrupted), "stopped");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace redline
