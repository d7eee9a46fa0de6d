// Every type through the fast kernels against float64 arithmetic on the same dequantised weights: what
// quantised activations and fp32 sums cost. docs/models.md has the figures.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/evaluate.h"
#include "kernels/reference/reference_ops.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

constexpr double kMostMeanKl = 0.005;
constexpr std::size_t kNumTokens = 96;

/// Two layers whose rows every type's block divides, four query heads on one. The multipliers make up for
/// random weights that are small (rms 0.02): neither attention nor the logits are flat, and layers change
/// their input.
ModelConfig config() {
  ModelConfig c = tiny_config();
  c.hidden_size = 256;
  c.num_q_heads = 8;
  c.num_kv_heads = 2;
  c.head_dim = c.rotary_dim = 64;
  c.ffn_size = 512;
  c.vocab_size = 509;
  c.tied_embeddings = false;
  c.embedding_multiplier = 5;
  c.attention_multiplier = 1.5;
  c.logits_divisor = 0.1;
  return c;
}

std::shared_ptr<LoadedModel> random_model(DType dtype, std::unique_ptr<Ops> ops) {
  auto model = std::make_shared<LoadedModel>();
  model->config = config();
  model->ops = std::move(ops);
  model->weights = std::make_unique<ModelWeights>(random_weights(model->config, dtype, *model->ops, 20));
  return model;
}

std::vector<std::vector<double>> log_probabilities(LoadedModel& model) {
  EvaluateOptions evaluate;
  evaluate.kv_dtype = DType::kF32;
  std::vector<std::vector<double>> all;
  for_each_logits(model, random_tokens(kNumTokens, 3, model.config.vocab_size), evaluate,
                  [&](std::int64_t, std::span<const float> logits) {
                    std::vector<double> row(logits.begin(), logits.end());
                    const double largest = *std::ranges::max_element(row);
                    double sum = 0;
                    for (const double x : row) sum += std::exp(x - largest);
                    for (double& x : row) x -= largest + std::log(sum);
                    all.push_back(std::move(row));
                  });
  return all;
}

class TypeKlTest : public testing::TestWithParam<int> {};

TEST_P(TypeKlTest, FastKernelsStayCloseToFloat64OnTheDequantisedWeights) {
  const auto dtype = static_cast<DType>(GetParam());
  const auto p = log_probabilities(*random_model(dtype, std::make_unique<BasicReferenceOps<double>>()));
  double entropy = 0;
  for (const auto& row : p)
    for (const double log_p : row) entropy -= std::exp(log_p) * log_p / static_cast<double>(p.size());
  ASSERT_GT(entropy, 1.0) << "a model that is never sure";
  ASSERT_LT(entropy, std::log(509.0) - 1) << "nor indifferent";
  for (const char* isa : {"", "portable"}) {
    const auto q = log_probabilities(*random_model(dtype, make_cpu_ops({.threads = 2, .isa = isa})));
    ASSERT_EQ(p.size(), kNumTokens);
    ASSERT_EQ(q.size(), kNumTokens);
    double mean = 0, largest = 0;
    for (std::size_t t = 0; t < p.size(); ++t) {
      double kl = 0;
      for (std::size_t i = 0; i < p[t].size(); ++i) kl += std::exp(p[t][i]) * (p[t][i] - q[t][i]);
      mean += kl / static_cast<double>(p.size());
      largest = std::max(largest, kl);
    }
    std::printf("%s%s%s: KL mean %.6f, largest %.6f\n", name(dtype), *isa ? ", " : "", isa, mean, largest);
    EXPECT_LE(mean, kMostMeanKl) << isa;
    EXPECT_GE(mean, -1e-9) << "a divergence";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, TypeKlTest, testing::Range(0, kNumDTypes),
                         [](const auto& type) { return std::string(name(static_cast<DType>(type.param))); });

}  // namespace
}  // namespace redline
