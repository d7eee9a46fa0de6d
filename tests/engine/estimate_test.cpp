// The sums of docs/accounting.md, recomputed.
#include "engine/meter/estimate.h"

#include <gtest/gtest.h>

#include "engine/meter/hardware.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

ModelConfig shape(std::int64_t layers, std::int64_t hidden, std::int64_t q_heads, std::int64_t kv_heads,
                  std::int64_t head_dim, std::int64_t ffn, std::int64_t vocab, bool tied = false) {
  ModelConfig c;
  c.num_layers = layers;
  c.hidden_size = hidden;
  c.num_q_heads = q_heads;
  c.num_kv_heads = kv_heads;
  c.head_dim = head_dim;
  c.ffn_size = ffn;
  c.vocab_size = vocab;
  c.tied_embeddings = tied;
  return c;
}

ModelConfig llama2_7b() { return shape(32, 4096, 32, 32, 128, 11008, 32000); }
ModelConfig llama3_8b() { return shape(32, 4096, 32, 8, 128, 14336, 128256); }

Estimate in_bf16(const ModelConfig& config) {
  return Estimate(config, stored_weights(config, DType::kBF16), DType::kBF16, Estimate::bf16_compute);
}

Peaks peaks(const char* device) { return find_hardware(device)->peaks(); }
double bf16_peak(const char* device) {
  return peaks(device).flops[static_cast<std::size_t>(ComputeType::kBF16)];
}

TEST(Estimate, PublishedParameterCounts) {
  EXPECT_EQ(stored_weights(llama2_7b(), DType::kBF16).parameters(), 6'738'415'616);
  EXPECT_EQ(stored_weights(llama3_8b(), DType::kBF16).parameters(), 8'030'261'248);
  EXPECT_EQ(stored_weights(llama2_7b(), DType::kBF16).bytes(), 2 * 6'738'415'616 + 2 * (2 * 32 + 1) * 4096)
      << "norms are f32";
}

TEST(Estimate, Llama2Prefill2048IsComputeBoundAtBatchOne) {
  const Estimate estimate = in_bf16(llama2_7b());
  const Work work = estimate.prefill(2048);
  EXPECT_NEAR(static_cast<double>(work.projections + work.ffn), 26.5e12, 0.05e12);
  EXPECT_NEAR(static_cast<double>(work.attention), 1.10e12, 0.005e12);
  EXPECT_NEAR(static_cast<double>(work.flops()), 27.6e12, 0.05e12);
  EXPECT_NEAR(static_cast<double>(work.weights), 13.2e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(work.kv_write), 1.07e9, 0.005e9);
  EXPECT_EQ(work.kv_read, 0);
  EXPECT_NEAR(work.intensity(), 1930, 10);
  for (const char* device : {"h100", "h200"})
    EXPECT_STREQ(verdict(work, peaks(device))->bound_by(), "compute") << device;
}

TEST(Estimate, IntensitiesOfSixtyAndMoreCountAttentionAlone) {
  // Products and softmax of one head, scores and probabilities written and read as fp16, Q, K, V and output.
  const double n = 2048, d = 128;
  EXPECT_NEAR((4 * n * n * d + 3 * n * n) / (8 * n * n + 8 * n * d), 60.6, 0.05);
}

TEST(Estimate, Llama2PrefillCrossesToComputeNear304And212Tokens) {
  const Estimate estimate = in_bf16(llama2_7b());
  EXPECT_NEAR(static_cast<double>(*estimate.prefill_crossover(peaks("h100"))), 304, 2);
  EXPECT_NEAR(static_cast<double>(*estimate.prefill_crossover(peaks("h200"))), 212, 2);
  const std::int64_t n = *estimate.prefill_crossover(peaks("h100"));
  EXPECT_STREQ(verdict(estimate.prefill(n), peaks("h100"))->bound_by(), "compute");
  EXPECT_STREQ(verdict(estimate.prefill(n - 1), peaks("h100"))->bound_by(), "memory");
}

TEST(Estimate, TheMhaFormulaIs7Point7PercentLowForLlama3) {
  const ModelConfig c = llama3_8b();
  const Work token = in_bf16(c).decode(1, 0);
  const double h2 = static_cast<double>(c.num_layers * c.hidden_size * c.hidden_size);
  const double linear = static_cast<double>(token.projections + token.ffn);
  EXPECT_NEAR(1 - 24 * h2 / linear, 0.077, 0.0005);
  const double qkv = 2.0 * static_cast<double>(c.num_layers * c.hidden_size * c.qkv_size());
  EXPECT_DOUBLE_EQ(6 * h2 / qkv, 2);
  EXPECT_NEAR(1 - 16 * h2 / static_cast<double>(token.ffn), 0.24, 0.005);
  EXPECT_NEAR(static_cast<double>(token.head) / linear, 0.075, 0.0005);
}

TEST(Estimate, BatchOneDecodeCannotExceed0Point27PercentMfuOnAnH100) {
  const double intensity = 0.8;
  EXPECT_NEAR(intensity * peaks("h100").bandwidth / bf16_peak("h100"), 0.0027, 0.00005);
  EXPECT_NEAR(0.05 * bf16_peak("h100") / intensity, 62e12, 0.5e12);
  // A real decode: Llama-2-7B after 2,048 tokens.
  const Work work = in_bf16(llama2_7b()).decode(1, 2048);
  EXPECT_LT(work.intensity(), 1.05);
  const Verdict v = *verdict(work, peaks("h100"));
  EXPECT_LT(v.compute_s / v.time_s(), 0.0036);
}

TEST(Estimate, DecodeIntensityOfWeightsIsTwiceTheBatchOverBytesPerParameter) {
  for (const ModelConfig& c : {llama2_7b(), llama3_8b(), shape(16, 2048, 32, 8, 64, 8192, 128256, true)})
    for (const std::int64_t batch : {1, 8, 64}) {
      const Work work = in_bf16(c).decode(batch, 0);
      const double weight_flops = static_cast<double>(work.flops() - work.attention);
      EXPECT_NEAR(weight_flops / static_cast<double>(work.weights) / static_cast<double>(batch), 1, 0.01);
    }
}

TEST(Estimate, GqaCutsKvBytesAndNotAttentionFlops) {
  ModelConfig mha = llama3_8b();
  mha.num_kv_heads = mha.num_q_heads;
  const Work grouped = in_bf16(llama3_8b()).decode(4, 1000), full = in_bf16(mha).decode(4, 1000);
  EXPECT_EQ(grouped.attention, full.attention);
  EXPECT_EQ(grouped.kv_read * 4, full.kv_read);
}

TEST(Estimate, QuantisedDecodeIsFasterAtTheSameBandwidthUtilisation) {
  const ModelConfig c = llama3_8b();
  const Estimate q4(c, stored_weights(c, DType::kQ4_0), DType::kBF16, Estimate::bf16_compute);
  const Verdict wide = *verdict(in_bf16(c).decode(1, 0), peaks("h100"));
  const Verdict narrow = *verdict(q4.decode(1, 0), peaks("h100"));
  EXPECT_EQ(wide.time_s(), wide.memory_s);
  EXPECT_EQ(narrow.time_s(), narrow.memory_s) << "both ideal steps use all of the bandwidth";
  EXPECT_NEAR(wide.time_s() / narrow.time_s(), 2 * 32 / 18.0, 0.01);
}

TEST(Estimate, ChunksTelescopeInFlopsAndReadTheWeightsAgain) {
  const Estimate estimate = in_bf16(llama3_8b());
  const Work whole = estimate.prefill(1000), chunked = estimate.prefill(1000, 0, 256);
  EXPECT_EQ(chunked.flops(), whole.flops());
  EXPECT_EQ(chunked.kv_write, whole.kv_write);
  EXPECT_EQ(chunked.kv_read, (256 + 512 + 768) * estimate.kv_bytes_per_token());
  const std::int64_t head = 2 * 128256 * 4096LL, row = 2 * 4096;
  EXPECT_EQ(chunked.weights, 4 * (whole.weights - head - 1000 * row) + head + 1000 * row)
      << "the head with the last chunk alone";
}

TEST(Estimate, ATiedTableCountsOnce) {
  const ModelConfig tied = shape(2, 64, 4, 2, 16, 128, 1000, true),
                    untied = shape(2, 64, 4, 2, 16, 128, 1000);
  const StoredWeights a = stored_weights(tied, DType::kQ8_0), b = stored_weights(untied, DType::kQ8_0);
  EXPECT_EQ(b.parameters() - a.parameters(), 64'000);
  EXPECT_EQ(b.bytes() - a.bytes(), 64'000 / 32 * 34);
  const Estimate ea(tied, a, DType::kBF16, Estimate::bf16_compute),
      eb(untied, b, DType::kBF16, Estimate::bf16_compute);
  EXPECT_EQ(eb.prefill(5).weights - ea.prefill(5).weights, 5 * 64 / 32 * 34);
  EXPECT_EQ(ea.prefill(5).flops(), eb.prefill(5).flops());
}

TEST(Estimate, VerdictNeedsEveryPeak) {
  Peaks unknown = peaks("h100");
  unknown.flops[static_cast<std::size_t>(ComputeType::kBF16)] = 0;
  EXPECT_FALSE(verdict(in_bf16(llama3_8b()).decode(1, 0), unknown));
  EXPECT_FALSE(verdict(in_bf16(llama3_8b()).decode(1, 0), Peaks{}));
  EXPECT_FALSE(in_bf16(llama3_8b()).prefill_crossover(Peaks{}));
}

TEST(Estimate, DecodeOfLongContextsNeverCrosses) {
  const Estimate mha = in_bf16(llama2_7b());
  EXPECT_TRUE(mha.decode_crossover(peaks("h100"), 0, 4096));
  EXPECT_FALSE(mha.decode_crossover(peaks("h100"), 4096, 4096)) << "every sequence brings its own cache";
}

TEST(Estimate, SequencesFitBesideTheWeights) {
  const Estimate estimate = in_bf16(llama3_8b());
  EXPECT_EQ(estimate.kv_bytes_per_token(), 131'072);
  EXPECT_EQ(estimate.sequences_that_fit(80'000'000'000, 8192),
            (80'000'000'000 - estimate.weights().bytes()) / (8192 * 131'072LL));
  EXPECT_EQ(estimate.sequences_that_fit(1, 8192), 0);
}

}  // namespace
}  // namespace redline
