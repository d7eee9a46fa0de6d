// docs/accounting.md held to its word: its figures are computed here, and looked for in its text.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <regex>
#include <sstream>

#include "engine/meter/economics.h"
#include "engine/meter/estimate.h"
#include "engine/meter/format.h"
#include "engine/meter/hardware.h"

namespace redline {
namespace {

/// The page, its lines joined.
std::string page() {
  std::ostringstream text;
  text << std::ifstream(REDLINE_SOURCE_DIR "/docs/accounting.md").rdbuf();
  return std::regex_replace(text.str(), std::regex("\\s+"), " ");
}

std::string fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

/// That the page says `before`, the value with so many decimals, and `after`, one after another.
void expect_said(const std::string& before, double value, int decimals, const std::string& after) {
  const std::string phrase = before + fixed(value, decimals) + after;
  EXPECT_NE(page().find(phrase), std::string::npos) << "the page does not say: " << phrase;
}

ModelConfig llama(std::int64_t kv_heads, std::int64_t ffn, std::int64_t vocab) {
  ModelConfig c;
  c.num_layers = 32;
  c.hidden_size = 4096;
  c.num_q_heads = 32;
  c.num_kv_heads = kv_heads;
  c.head_dim = 128;
  c.ffn_size = ffn;
  c.vocab_size = vocab;
  return c;
}
ModelConfig llama2_7b() { return llama(32, 11008, 32000); }
ModelConfig llama3_8b() { return llama(8, 14336, 128256); }

Estimate estimate(const ModelConfig& config, DType dtype = DType::kBF16) {
  return Estimate(config, stored_weights(config, dtype), DType::kBF16, Estimate::bf16_compute);
}
double real(std::int64_t value) { return static_cast<double>(value); }
Peaks peaks(const char* device) { return find_hardware(device)->peaks(); }
double bf16_peak(const char* device) {
  return peaks(device).flops[static_cast<std::size_t>(ComputeType::kBF16)];
}

TEST(AccountingPage, DevicesAndTheirBalances) {
  for (const auto& [id, name] : {std::pair{"h100", "H100 SXM"},
                                 {"h200", "H200 SXM"},
                                 {"a100", "A100 80 GB SXM"},
                                 {"a100-40gb", "A100 40 GB SXM"}}) {
    const double peak = bf16_peak(id) / 1e12, bandwidth = peaks(id).bandwidth / 1e12;
    char row[128];
    std::snprintf(row, sizeof row, "| %s | %g | %g | %.0f |", name, peak, bandwidth, peak / bandwidth);
    EXPECT_NE(page().find(row), std::string::npos) << row;
  }
}

TEST(AccountingPage, Llama2Prefill) {
  const Estimate model = estimate(llama2_7b());
  const Work work = model.prefill(2048);
  const ModelConfig c = llama2_7b();
  const double layers = 32 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008);
  EXPECT_EQ(real(work.projections + work.ffn), 2 * layers * 2048);
  expect_said("`32 · (4 · 4096² + 3 · 4096 · 11008)` = ", layers / 1e9, 3, " G weights");
  expect_said("2,048 = ", real(work.projections + work.ffn) / 1e12, 1, " TFLOP of products");
  EXPECT_EQ(work.attention, 4LL * 32 * 32 * 128 * (2048 * 2049 / 2));
  expect_said("`4 · 32 · 32 · 128 · 2048 · 2049 / 2` = ", real(work.attention) / 1e12, 2, " TFLOP");
  expect_said("one row of logits ", real(work.head) / 1e9, 2, " GFLOP");
  expect_said("", real(work.flops()) / 1e12, 1, " TFLOP together");
  expect_said("that ", real(work.weights) / 1e9, 1, " GB of weights");
  EXPECT_EQ(work.kv_write, 2LL * 32 * 32 * 128 * 2 * 2048);
  expect_said("`2 · 32 · 32 · 128 · 2 · 2048` = ", real(work.kv_write) / 1e9, 2, " GB of KV written");
  EXPECT_NE(
      page().find("about " + format_count(static_cast<std::int64_t>(std::round(work.intensity() / 10)) * 10) +
                  " FLOP/B"),
      std::string::npos)
      << work.intensity();
  EXPECT_NEAR(real(*model.prefill_crossover(peaks("h100"))), 304, 2);
  EXPECT_NEAR(real(*model.prefill_crossover(peaks("h200"))), 212, 2);
  EXPECT_NE(page().find("near 304 tokens on an H100 and 212 on an H200"), std::string::npos);
  EXPECT_EQ(c.num_kv_heads, c.num_q_heads);
}

// One head over 2,048 tokens: products and softmax, against scores and probabilities written and read in
// fp16, Q, K, V and the output.
TEST(AccountingPage, IntensitiesThatCountAttentionAlone) {
  const double n = 2048, d = 128, intensity = (4 * n * n * d + 3 * n * n) / (8 * n * n + 8 * n * d);
  EXPECT_GT(intensity, 60);
  EXPECT_LT(intensity, 75);
  EXPECT_NE(page().find("Intensities of 60 to 75 that circulate"), std::string::npos);
}

TEST(AccountingPage, TheFormulaForMultiHeadAttention) {
  const Work token = estimate(llama3_8b()).decode(1, 0);
  const double h2 = 32 * 4096.0 * 4096, layers = real(token.projections + token.ffn);
  expect_said("it says ", 24 * h2 / 1e9, 1, " GFLOP a token");
  expect_said("the layers take ", layers / 1e9, 1, ": ");
  expect_said(": ", 100 * (1 - 24 * h2 / layers), 1, " % low");
  const double qkv = 2.0 * 32 * 4096 * real(llama3_8b().qkv_size());
  EXPECT_DOUBLE_EQ(6 * h2 / qkv, 2);
  EXPECT_NE(page().find("a QKV term that is twice too high"), std::string::npos);
  expect_said("an FFN term ", 100 * (1 - 16 * h2 / real(token.ffn)), 0, " % too low");
  expect_said("leaves out the head: ", real(token.head) / 1e9, 2, " GFLOP");
  expect_said(" GFLOP, ", 100 * real(token.head) / layers, 1, " % of the layers'");
}

TEST(AccountingPage, DecodeAtBatchOne) {
  const double fed = 0.8 * peaks("h100").bandwidth;
  expect_said("0.8 · 3.35 T = ", fed / 1e12, 1, " TFLOP/s");
  expect_said("TFLOP/s: ", 100 * fed / bf16_peak("h100"), 2, " % of its peak");
  expect_said("A claim of 5 % would need ", 0.05 * bf16_peak("h100") / 0.8 / 1e12, 0, " TB/s");
}

TEST(AccountingPage, DecodeMfuGoesWithTheBatch) {
  const double intensity = 2 * 32 / 2.0;
  expect_said("whatever the model: ", intensity, 0, " FLOP/B in bf16 at a batch of 32");
  expect_said("a batch of 32, ", 100 * intensity * peaks("h100").bandwidth / bf16_peak("h100"), 1,
              " % of an H100");
  const Work work = estimate(llama2_7b()).decode(32, 0);
  EXPECT_NEAR(real(work.flops()) / real(work.weights), intensity, 0.3);
}

TEST(AccountingPage, GroupedQueriesCutBytesAlone) {
  ModelConfig full = llama3_8b();
  full.num_kv_heads = full.num_q_heads;
  EXPECT_EQ(estimate(full).decode(1, 999).attention, estimate(llama3_8b()).decode(1, 999).attention);
  expect_said("holds ", real(estimate(llama3_8b()).kv_bytes_per_token()) / 1e3, 0, " kB in bf16 instead of ");
  expect_said("instead of ", real(estimate(full).kv_bytes_per_token()) / 1e3, 0, " kB");
}

TEST(AccountingPage, QuantisedDecode) {
  const ModelConfig c = llama3_8b();
  const Verdict wide = *verdict(estimate(c).decode(1, 0), peaks("h100"));
  const Verdict narrow = *verdict(estimate(c, DType::kQ4_0).decode(1, 0), peaks("h100"));
  EXPECT_STREQ(narrow.bound_by(), "memory") << "both use all of the bandwidth";
  EXPECT_EQ(row_bytes(DType::kQ4_0, 32), 18);
  expect_said("bf16 64) up to ", 64 / 18.0, 2, " times as many");
  EXPECT_NEAR(wide.time_s() / narrow.time_s(), 64 / 18.0, 0.01);
}

TEST(AccountingPage, Cost) {
  const MfuChange tenth{.devices = 1, .mfu_from = 1, .mfu_to = 1.1, .price_per_hour = 1};
  expect_said("saves 1 − 1/1.1 = ", 100 * tenth.share_saved(), 1, " % of them, not 10 %");
  const MfuChange fleet{.devices = 1000, .mfu_from = 0.2, .mfu_to = 0.3, .price_per_hour = 3};
  expect_said("from 20 to 30 %: ", fleet.devices_saved(), 0, " of them are saved");
  EXPECT_NE(page().find("$" + format_count(std::llround(fleet.saved_per_hour())) + " an hour"),
            std::string::npos);
  expect_said("$", fleet.saved_per_year() / 1e6, 1, " M a year of 8,760 hours");
}

TEST(AccountingPage, HowLongTotalsLast) {
  const double most = real(std::numeric_limits<std::int64_t>::max());
  expect_said("integers: ", most / 1e18, 1, " · 10¹⁸ FLOPs");
  EXPECT_GT(most / 1e12 / 86400, 100) << "days at 1 TFLOP/s";
  expect_said("100 days at 1 TFLOP/s and ", most / 1e15 / 3600, 1, " hours at 1 PFLOP/s");
}

}  // namespace
}  // namespace redline
