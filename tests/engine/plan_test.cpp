// Plans, by hand-made sums and by laws of queues.
#include "engine/meter/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/engine/estimated_llama.h"

namespace redline {
namespace {

constexpr double kPeak = 1e12, kBandwidth = 2e10, kComputeShare = 0.5, kMemoryShare = 0.8;

ModelConfig tiny_llama() {
  ModelConfig c;
  c.num_layers = 2;
  c.hidden_size = 64;
  c.num_q_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 16;
  c.ffn_size = 96;
  c.vocab_size = 1000;
  return c;
}

StepTimes times_of(const ModelConfig& config, const Peaks& peaks, double compute_share = kComputeShare,
                   double memory_share = kMemoryShare) {
  return {Estimate(config, stored_weights(config, DType::kBF16), DType::kBF16, Estimate::bf16_compute),
          {{1, StepModel(compute_share, memory_share, peaks)}},
          peaks};
}

// Untied: the head is read, and of the embedding one row a token.
TEST(StepTimes, AreTheSumsThatAHandMakes) {
  const StepTimes times = times_of(tiny_llama(), peaks_at(kPeak, kBandwidth));
  const double layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 96;  // elements
  const double matrices = 2 * layer + 1000 * 64, norms = 5 * 64;
  const double kv_token = 2 * 2 * 32 * 2;  // bytes: K and V, layers, elements, bf16
  const auto decode_bytes = [&](double batch, double depth) {
    return 2 * matrices + 4 * norms + batch * (2 * 64 + (depth + 1) * kv_token);
  };
  EXPECT_NEAR(times.seconds(3, 50), decode_bytes(3, 50) / kBandwidth / kMemoryShare, 1e-15)
      << "bound by memory";
  EXPECT_NEAR(times.seconds(2.25, 50), 0.75 * times.seconds(2, 50) + 0.25 * times.seconds(3, 50), 1e-15);
  const double pairs = 400. * 401 / 2;
  const double flops = 2. * 400 * 2 * layer + 4. * 2 * 64 * pairs + 2. * 64 * 1000;
  const StepTimes slow = times_of(tiny_llama(), peaks_at(1e9, kBandwidth));
  EXPECT_NEAR(slow.seconds(0, 0, {400, 0, true}), flops / 1e9 / kComputeShare, 1e-12) << "bound by compute";
  const double with = 2. * 3 * (2 * layer + 64000) + 4. * 2 * 64 * 3 * 51;
  EXPECT_NEAR(slow.seconds(3, 50, {400, 0, true}), (flops + with) / 1e9 / kComputeShare, 1e-12)
      << "three sequences decode along";
  EXPECT_EQ(times.seconds(0, 50), 0);
}

TEST(StepTimes, BetweenTheBatchesThatWereSeenLieBetweenTheirTimes) {
  const Peaks peaks = peaks_at(kPeak, kBandwidth);
  const Estimate estimate(tiny_llama(), stored_weights(tiny_llama(), DType::kBF16), DType::kBF16,
                          Estimate::bf16_compute);
  const StepTimes times(estimate, {{1, StepModel(0.5, 0.8, peaks)}, {16, StepModel(0.5, 0.4, peaks)}}, peaks);
  const double roofline_s = times.roofline(4, 10).time_s();
  EXPECT_NEAR(times.seconds(1, 10), times.roofline(1, 10).time_s() / 0.8, 1e-15);
  EXPECT_NEAR(times.seconds(4, 10), (roofline_s / 0.8 + roofline_s / 0.4) / 2, 1e-15)
      << "4 lies half way from 1 to 16";
  EXPECT_NEAR(times.seconds(64, 10), times.roofline(64, 10).time_s() / 0.4, 1e-15);
}

TEST(StepTimes, UnknownPeaksAreSaidToBe) {
  EXPECT_THROW(times_of(tiny_llama(), peaks_at(0, kBandwidth)), std::runtime_error);
  EXPECT_THROW(times_of(tiny_llama(), peaks_at(kPeak, 0)), std::runtime_error);
}

TEST(StepTimes, OfTwoPromptsInAStepAreTheirTokensTogether) {
  const StepTimes slow = times_of(tiny_llama(), peaks_at(1e9, 1e15), 1, 1);
  const std::vector<PromptChunk> two{{100, 300, true}, {50, 0, false}};
  const double layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 96;
  const double pairs = 100. * 300 + 100. * 101 / 2 + 50. * 51 / 2;
  EXPECT_NEAR(slow.seconds(0, 0, two), (2. * 150 * 2 * layer + 4. * 2 * 64 * pairs + 2. * 64 * 1000) / 1e9,
              1e-12);
}

// Where a step takes as long as its sequences together, requests share the device as in M/G/1 with processor
// sharing: b = rho / (1 - rho).
TEST(LoadModel, SharesAComputeBoundDeviceAsAQueueDoes) {
  const StepTimes times = times_of(small_llama(), peaks_at(1e11, 1e15), 1, 1);
  const PlannedLoad load{.input_len = 1, .output_len = 2001, .most_sequences = 1000};
  const LoadModel model(times, load);
  const double alone_s = 2000 * times.seconds(1, load.depth());
  for (const double busy : {0.1, 0.3, 0.7}) {
    const auto state = model.at(busy / alone_s);
    ASSERT_TRUE(state);
    EXPECT_NEAR(state->batch / (busy / (1 - busy)), 1, 0.1) << busy;
    EXPECT_NEAR(state->busy / busy, 1, 0.05);
  }
  EXPECT_FALSE(model.at(1.01 / alone_s));
}

// Prompts alone, each a step that none shares, wait as in an M/D/1 queue.
TEST(LoadModel, LetsPromptsWaitAsAQueueDoes) {
  const StepTimes times = times_of(small_llama(), peaks_at(1e11, 1e15), 1, 1);
  const LoadModel model(times,
                        {.input_len = 512, .output_len = 1, .chunk_tokens = 512, .most_sequences = 1000});
  const double prompt = model.prompt_s();
  for (const double busy : {0.1, 0.5, 0.8}) {
    const auto state = model.at(busy / prompt);
    ASSERT_TRUE(state);
    const double wait = busy * prompt / (2 * (1 - busy));
    EXPECT_NEAR((state->ttft_s - prompt) / wait, 1, 0.15) << busy;
    EXPECT_GT(state->ttft_p99_s, state->ttft_s);
    EXPECT_EQ(state->tpot_s, 0);
    EXPECT_NEAR(state->prefill_s, prompt, 1e-9);
  }
  EXPECT_NEAR(model.capacity(1000) * prompt, 1, 1e-9);
  EXPECT_FALSE(model.at(1.01 / prompt));
}

// One sequence at a time is an M/D/1 queue as well, of whole requests.
TEST(LoadModel, KeepsRequestsOutWhileAsManyRunAsMay) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const PlannedLoad load{.input_len = 100, .output_len = 20, .most_sequences = 1};
  const LoadModel model(times, load);
  const double request = model.at(0)->e2e_s;
  EXPECT_NEAR(model.capacity(1) * request, 1, 1e-3);
  const auto state = model.at(0.6 / request);
  ASSERT_TRUE(state);
  EXPECT_NEAR(state->tpot_s, times.seconds(1, load.depth()), 1e-12);
  EXPECT_NEAR((state->ttft_s - model.prompt_s()) / (0.6 * request / (2 * 0.4)), 1, 0.1);
}

// By hand: answers that take three equal steps, a prompt in one of them that adds nothing to it.
TEST(LoadModel, FillsABatchAsItsPromptsComeIn) {
  const StepTimes times = times_of(small_llama(), peaks_at(1e30, kBandwidth));
  const LoadModel model(
      times,
      {.input_len = 8, .output_len = 4, .mean_depth = 8, .chunk_tokens = 8 + 3, .most_sequences = 100});
  // One prompt fits beside three answers: each step begins one, each goes on for three.
  const SteadyState most = *model.most();
  EXPECT_NEAR(most.batch, 3, 1e-9);
  EXPECT_EQ(most.busy, 1);
  EXPECT_NEAR(most.tpot_s * most.requests_per_s, 1, 1e-9);
}

TEST(LoadModel, KeepsLittlesLawAndGrowsWithItsLoad) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const PlannedLoad load{.input_len = 700, .output_len = 200, .most_sequences = 64};
  const LoadModel model(times, load);
  const double most = model.capacity(64);
  SteadyState before = *model.at(0);
  EXPECT_EQ(before.ttft_s, model.prompt_s());
  EXPECT_NEAR(before.tpot_s, times.seconds(1, 800), 1e-12);
  EXPECT_EQ(before.batch, 0);
  for (const double share : {0.1, 0.3, 0.5, 0.7, 0.9}) {
    const auto state = model.at(share * most);
    ASSERT_TRUE(state) << share;
    EXPECT_NEAR(state->batch / (share * most * 199 * state->tpot_s), 1, 0.05) << share;
    EXPECT_NEAR(state->e2e_s, state->ttft_s + 199 * state->tpot_s, 1e-12);
    EXPECT_NEAR(state->requests_per_s * (state->prefill_s + state->decode_s), state->busy,
                0.05 * state->busy);
    EXPECT_GT(state->batch, before.batch);
    EXPECT_GE(state->tpot_s, before.tpot_s);
    EXPECT_GT(state->ttft_s, before.ttft_s);
    EXPECT_LE(state->busy, 1);
    before = *state;
  }
}

TEST(LoadModel, SaysTheSameWhenAskedAgain) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const LoadModel model(times, {.input_len = 600, .output_len = 60, .most_sequences = 200});
  const double rate = 0.8 * model.capacity(200);
  EXPECT_EQ(model.at(rate)->ttft_s, model.at(rate)->ttft_s);
}

TEST(LoadModel, SaturatesWhereABatchIsFullAndThenTakesMoreDevices) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const PlannedLoad load{.input_len = 256, .output_len = 256, .most_sequences = 32};
  const LoadModel model(times, load);
  const double most = model.most()->requests_per_s;
  EXPECT_EQ(most, model.capacity(32));
  EXPECT_TRUE(model.at(0.999 * most));
  EXPECT_FALSE(model.at(1.001 * most));
  EXPECT_EQ(model.devices(0.9 * most), 1);
  EXPECT_EQ(model.devices(1.1 * most), 2);
  EXPECT_EQ(model.devices(6.5 * most), 7);
  EXPECT_GT(model.capacity(32), model.capacity(8)) << "weights are read for more tokens at once";
}

TEST(LoadModel, FindsTheBatchThatMeetsALatencyAndSaysWhereNoneDoes) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  PlannedLoad load{.input_len = 256, .output_len = 256, .most_sequences = 256};
  const double alone_s = times.seconds(1, load.depth());
  load.target_tpot_s = 2 * alone_s;
  const LoadModel model(times, load);
  const auto most = model.most();
  ASSERT_TRUE(most);
  EXPECT_NEAR(most->tpot_s, *load.target_tpot_s, 0.02 * alone_s);
  EXPECT_GT(most->batch, 1);
  EXPECT_FALSE(model.at(1.02 * most->requests_per_s)->meets_targets);
  EXPECT_EQ(model.devices(2.5 * most->requests_per_s), 3);
  load.target_tpot_s = 0.9 * alone_s;
  EXPECT_FALSE(LoadModel(times, load).most());
  EXPECT_FALSE(LoadModel(times, load).devices(0.001));
  load.target_tpot_s = {};
  load.target_ttft_s = 0.9 * model.prompt_s();
  EXPECT_FALSE(LoadModel(times, load).most());
}

}  // namespace
}  // namespace redline
