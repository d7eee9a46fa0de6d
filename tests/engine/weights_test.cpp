#include "engine/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/model_shapes.h"
#include "kernels/convert.h"
#include "tests/engine/real_model.h"
#include "tests/engine/tiny_llama.h"

namespace redline {
namespace {

std::vector<float> unpacked(const Ops& ops, const WeightView& view, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(view.cols));
  ops.unpack_row(view, row, values.data());
  return values;
}

std::vector<float> row_of(const MatrixSource& source, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(source.cols));
  dequantize_row(source.dtype, source.row(row), source.cols, values.data());
  return values;
}

TEST(LoadWeights, PacksTheRealModelRowForRow) {
  const Checkpoint checkpoint(real_model_path());
  const auto ops = make_cpu_ops();
  std::int64_t done = 0, total = 0;
  LoadOptions options;
  options.progress = [&](std::int64_t done_bytes, std::int64_t total_bytes) {
    EXPECT_GT(done_bytes, done);
    done = done_bytes;
    total = total_bytes;
  };
  const ModelWeights weights = load_weights(checkpoint, *ops, options);
  EXPECT_EQ(done, total);
  EXPECT_EQ(weights.parameters, 134515008);  // as the model's card counts them
  EXPECT_EQ(weights.stored_bytes, weight_memory_bytes(checkpoint, *ops));
  EXPECT_FALSE(weights.head);
  ASSERT_EQ(weights.layers.size(), 30U);
  const LayerWeights& layer = weights.layers[17];
  ASSERT_EQ(layer.qkv.size(), 1U);
  const auto matrix = [&](TensorRole role) { return checkpoint.matrix(role, 17); };
  const WeightView& qkv = layer.qkv[0].view;
  EXPECT_EQ(unpacked(*ops, qkv, 70), row_of(matrix(TensorRole::kQ), 70));
  EXPECT_EQ(unpacked(*ops, qkv, 576 + 191), row_of(matrix(TensorRole::kK), 191));
  EXPECT_EQ(unpacked(*ops, qkv, 576 + 192), row_of(matrix(TensorRole::kV), 0));
  EXPECT_EQ(unpacked(*ops, layer.down.view, 575), row_of(matrix(TensorRole::kDown), 575));
  EXPECT_TRUE(layer.gate_up);
  EXPECT_EQ(unpacked(*ops, weights.embedding.view, 49151),
            row_of(checkpoint.matrix(TensorRole::kEmbedding), 49151));
  EXPECT_EQ(layer.attn_norm.size, 576);
}

TEST(LoadWeights, RequantisesRowByRowToEveryType) {
  const TemporaryDirectory directory;
  const Checkpoint checkpoint(directory.write("m.gguf", tiny_gguf(DType::kQ8_0, false).finish()).string());
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (traits(dtype).block_elements > 32) continue;  // the model's rows are shorter
    SCOPED_TRACE(name(dtype));
    LoadOptions options;
    options.dtype = dtype;
    const ModelWeights weights = load_weights(checkpoint, *ops, options);
    EXPECT_EQ(weights.stored_bytes, weight_memory_bytes(checkpoint, *ops, dtype));
    for (std::int64_t row = 0; row < 64; ++row) {
      const auto source = row_of(checkpoint.matrix(TensorRole::kDown, 1), row);
      std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(dtype, 96)));
      quantize_row(dtype, source.data(), 96, stored.data());
      std::vector<float> expected(96);
      dequantize_row(dtype, stored.data(), 96, expected.data());
      EXPECT_EQ(unpacked(*ops, weights.layers[1].down.view, row), dtype == DType::kQ8_0 ? source : expected);
    }
  }
}

TEST(LoadWeights, TakesALargerTypeWhereBlocksOf256DoNotDivideTheRows) {
  EXPECT_EQ(type_for_rows(DType::kQ4_K, 512), DType::kQ4_K);
  EXPECT_EQ(type_for_rows(DType::kQ6_K, 576), DType::kQ8_0);
  EXPECT_EQ(type_for_rows(DType::kQ4_0, 35), DType::kQ4_0) << "which is refused by the tensor's name";
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  LoadOptions options;
  options.dtype = DType::kQ4_K;
  const Checkpoint checkpoint(real_model_path());
  const ModelWeights weights = load_weights(checkpoint, *ops, options);
  EXPECT_EQ(weights.stored_bytes, weight_memory_bytes(checkpoint, *ops, DType::kQ4_K));
  EXPECT_EQ(weights.layers[0].qkv[0].view.dtype, DType::kQ5_0) << "rows of 576";
  EXPECT_EQ(weights.layers[0].down.view.dtype, DType::kQ4_K) << "rows of 1536";
}

TEST(RandomWeights, HaveTheShapeAndSaneNumbersInEveryType) {
  ModelConfig config = *named_shape("smollm2-135m");
  config.num_layers = 2;
  config.vocab_size = 1000;
  config.tied_embeddings = false;
  config.hidden_size = 768;  // whole blocks of every type
  config.num_q_heads = 12;
  const auto ops = make_cpu_ops();
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    SCOPED_TRACE(name(dtype));
    const ModelWeights weights = random_weights(config, dtype, *ops, 7);
    EXPECT_EQ(weights.stored_bytes, weight_memory_bytes(config, dtype, *ops));
    EXPECT_EQ(weights.layers.size(), 2U);
    ASSERT_TRUE(weights.head);
    double sum = 0, squares = 0;
    for (std::int64_t row = 0; row < 100; ++row)
      for (const float x : unpacked(*ops, weights.head->view, row)) {
        ASSERT_LE(std::abs(x), 3.0 / 64);
        sum += x;
        squares += x * x;
      }
    const double n = 100.0 * 768;
    EXPECT_NEAR(sum / n, 0, 0.004);
    EXPECT_NEAR(std::sqrt(squares / n), 0.02, 0.005);
    EXPECT_NE(unpacked(*ops, weights.head->view, 0), unpacked(*ops, weights.head->view, 1));
    EXPECT_NE(unpacked(*ops, weights.head->view, 0), unpacked(*ops, weights.embedding.view, 0));
    EXPECT_EQ(unpacked(*ops, weights.head->view, 9),
              unpacked(*ops, random_weights(config, dtype, *ops, 7).head->view, 9));
  }
}

TEST(RandomWeights, RefuseRowsThatTheTypesBlockDoesNotDivide) {
  ModelConfig config = *named_shape("smollm2-135m");
  config.num_layers = 1;
  config.ffn_size = 1500;
  const auto ops = make_cpu_ops();
  EXPECT_THROW(random_weights(config, DType::kQ8_0, *ops, 1), std::invalid_argument);
}

TEST(NamedShapes, HaveTheirModelsParameterCounts) {
  const std::pair<const char*, std::int64_t> published[] = {
      {"smollm2-135m", 134515008},    {"smollm2-360m", 361821120},     {"smollm2-1.7b", 1711376384},
      {"tinyllama-1.1b", 1100048384}, {"llama-3.2-1b", 1235814400},    {"llama-3.2-3b", 3212749824},
      {"llama-3.1-8b", 8030261248},   {"llama-3.1-70b", 70553706496},  {"llama-3.1-405b", 405853388800},
      {"llama-3-8b", 8030261248},     {"llama-2-7b", 6738415616},      {"llama-2-13b", 13015864320},
      {"llama-2-70b", 68976648192},   {"mistral-7b-v0.1", 7241732096}, {"qwen2.5-0.5b", 494032768},
      {"qwen2.5-1.5b", 1543714304},   {"qwen2.5-7b", 7615616512},      {"qwen3-0.6b", 596049920},
      {"qwen3-8b", 8190735360},       {"smollm3-3b", 3075098624}};
  for (const auto& [name, parameters] : published) {
    const auto config = named_shape(name);
    ASSERT_TRUE(config) << name;
    std::int64_t count = 0;
    for_each_tensor(*config, [&](TensorRole role, std::int64_t) {
      std::int64_t elements = 1;
      for (const auto dim : tensor_shape(role, *config)) elements *= dim;
      count += elements;
    });
    EXPECT_EQ(count, parameters) << name;
    EXPECT_NE(shape_names().find(name), std::string::npos);
  }
  EXPECT_FALSE(named_shape("llama-9"));
}

}  // namespace
}  // namespace redline
