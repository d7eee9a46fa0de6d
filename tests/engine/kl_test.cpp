// The default path of the real model, as a user runs it, against the fp32 distributions of the same weights
// that transformers computed (tests/goldens/README.md says what is stored, and why it suffices).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/engine.h"
#include "engine/evaluate.h"
#include "tests/engine/golden.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

// KL(p || q) of one position: the sum over p's likeliest tokens exactly; over the rest as p's share of it
// times the mean of log(p / q) + q / p - 1 over the drawn tokens, plus what the added terms come to over all
// the rest.
double kl_divergence(std::span<const std::uint16_t> ids, std::span<const float> log_p, std::size_t num_top,
                     std::span<const float> logits) {
  const double norm = log_sum_exp(logits);
  double top = 0, p_rest = 1, q_rest = 1, drawn = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double p = log_p[i], q = static_cast<double>(logits[ids[i]]) - norm;
    if (i < num_top) {
      top += std::exp(p) * (p - q);
      p_rest -= std::exp(p);
      q_rest -= std::exp(q);
    } else {
      drawn += p - q + std::exp(q - p) - 1;
    }
  }
  return top + p_rest * drawn / static_cast<double>(ids.size() - num_top) + p_rest - q_rest;
}

void expect_close_to_fp32(DType kv_dtype, double least_agreement) {
  const auto golden = read_golden_json(kGoldens / "smollm2/kl.json");
  const auto ids = read_npy<std::uint16_t>(kGoldens / "smollm2/kl_ids.npy", "<u2");
  const auto log_p = read_npy<float>(kGoldens / "smollm2/kl_logprobs.npy", "<f4");
  const std::size_t num_top = golden["num_top"];
  const std::vector<std::int32_t> tokens = golden["token_ids"];
  ASSERT_GE(tokens.size(), 1500u);
  ASSERT_EQ(ids.rows, std::ssize(tokens));
  const auto model = LoadedModel::open(real_model_path(), {});

  std::vector<double> kl;
  std::int64_t agree = 0;
  for_each_logits(*model, tokens, {.kv_dtype = kv_dtype}, [&](std::int64_t t, std::span<const float> logits) {
    kl.push_back(kl_divergence(ids.row(t), log_p.row(t), num_top, logits));
    agree += std::max_element(logits.begin(), logits.end()) - logits.begin() == ids.row(t)[0];
  });
  std::sort(kl.begin(), kl.end());
  double mean = 0;
  for (const double v : kl) mean += v / static_cast<double>(kl.size());
  const double percentile_99 = kl[kl.size() * 99 / 100];
  const double top1 = static_cast<double>(agree) / static_cast<double>(kl.size());
  std::printf("KL mean %.5f, 99th percentile %.5f, top-1 agreement %.2f %%\n", mean, percentile_99,
              100 * top1);
  EXPECT_LE(mean, 0.004);
  EXPECT_LE(percentile_99, 0.016);
  EXPECT_GE(top1, least_agreement);
}

TEST(KlTest, TheDefaultPathStaysCloseToFp32) { expect_close_to_fp32(DType::kBF16, 0.96); }

TEST(KlTest, ACacheOfBytesStaysAsClose) { expect_close_to_fp32(DType::kQ8_0, 0.955); }

}  // namespace
}  // namespace redline
