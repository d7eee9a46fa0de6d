// Plans, by hand-made sums, by laws of queues, and against a simulation of the steps that they average.
#include "engine/meter/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>
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

// Where a step takes as long as its sequences together, requests share the device as in M/G/1 with processor
// sharing: b = rho / (1 - rho).
TEST(LoadModel, SharesAComputeBoundDeviceAsAQueueDoes) {
  const StepTimes times = times_of(small_llama(), peaks_at(1e11, 1e15), 1, 1);
  const PlannedLoad load{.input_len = 1, .output_len = 2001, .most_sequences = 1000};
  const LoadModel model(times, load);
  const double alone_s = 2000 * times.seconds(1, load.depth());
  for (const double busy : {0.01, 0.3, 0.7, 0.9}) {
    const auto state = model.at(busy / alone_s);
    ASSERT_TRUE(state);
    EXPECT_NEAR(state->batch / (busy / (1 - busy)), 1, 0.02) << busy;
  }
  EXPECT_FALSE(model.at(1.01 / alone_s));
}

TEST(LoadModel, KeepsLittlesLawAndGrowsWithItsLoad) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const PlannedLoad load{.input_len = 700, .output_len = 200, .most_sequences = 64};
  const LoadModel model(times, load);
  const double most = model.capacity(64);
  SteadyState before = *model.at(0);
  EXPECT_EQ(before.ttft_s, model.prompt_s());
  EXPECT_NEAR(before.tpot_s, times.seconds(1, 800), 1e-12);
  EXPECT_NEAR(before.batch, 0, 1e-9);
  for (const double share : {0.1, 0.3, 0.5, 0.7, 0.9, 0.99}) {
    const auto state = model.at(share * most);
    ASSERT_TRUE(state) << share;
    EXPECT_NEAR(state->batch, share * most * 199 * state->tpot_s, 1e-6 * state->batch);
    EXPECT_NEAR(state->e2e_s, state->ttft_s + 199 * state->tpot_s, 1e-12);
    EXPECT_GT(state->batch, before.batch);
    EXPECT_GE(state->tpot_s, before.tpot_s);
    EXPECT_GT(state->ttft_s, before.ttft_s);
    EXPECT_LE(state->busy, 1);
    before = *state;
  }
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
  EXPECT_NEAR(most->tpot_s, *load.target_tpot_s, 1e-3 * alone_s);
  EXPECT_GT(most->batch, 1);
  EXPECT_FALSE(model.at(1.01 * most->requests_per_s)->meets_targets);
  EXPECT_EQ(model.devices(2.5 * most->requests_per_s), 3);
  load.target_tpot_s = 0.9 * alone_s;
  EXPECT_FALSE(LoadModel(times, load).most());
  EXPECT_FALSE(LoadModel(times, load).devices(0.001));
  load.target_tpot_s = {};
  load.target_ttft_s = 0.9 * model.prompt_s();
  EXPECT_FALSE(LoadModel(times, load).most());
}

/// Continuous batching step by step: every running sequence gets a token, the first prompt a chunk.
struct Simulated {
  double ttft_s = 0, tpot_s = 0, batch = 0;
};
Simulated simulate(const StepTimes& times, const PlannedLoad& load, double rate, std::uint32_t seed) {
  constexpr int kRequests = 3000;
  std::mt19937 random(seed);
  std::exponential_distribution<double> gap(rate);
  struct Arrived {
    double at_s = 0, first_s = 0;
    std::int64_t left = 0, done = 0;
  };
  std::deque<Arrived> waiting;
  std::vector<Arrived> running;
  double now_s = 0, next_s = gap(random), decoding_s = 0;
  Simulated mean;
  int arrived = 0, ended = 0;
  while (ended < kRequests) {
    if (waiting.empty() && running.empty()) now_s = std::max(now_s, next_s);
    for (; arrived < kRequests && next_s <= now_s; ++arrived, next_s += gap(random))
      waiting.push_back({next_s, 0, load.output_len - 1, 0});
    PromptChunk chunk;
    if (!waiting.empty()) {
      chunk = {std::min(load.chunk_tokens, load.input_len - waiting.front().done), waiting.front().done};
      chunk.is_last = chunk.num_cached + chunk.num_tokens == load.input_len;
    }
    const double step_s = times.seconds(static_cast<double>(running.size()), load.depth(), chunk);
    now_s += step_s;
    decoding_s += step_s * static_cast<double>(running.size());
    std::erase_if(running, [&](Arrived& each) {
      if (--each.left > 0) return false;
      mean.tpot_s += (now_s - each.first_s) / static_cast<double>(load.output_len - 1) / kRequests;
      ++ended;
      return true;
    });
    if (chunk.num_tokens == 0) continue;
    waiting.front().done += chunk.num_tokens;
    if (!chunk.is_last) continue;
    waiting.front().first_s = now_s;
    mean.ttft_s += (now_s - waiting.front().at_s) / kRequests;
    running.push_back(waiting.front());
    waiting.pop_front();
  }
  mean.batch = decoding_s / now_s;
  return mean;
}

TEST(LoadModel, AveragesWhatASimulationOfEveryStepShows) {
  const StepTimes times = times_of(small_llama(), peaks_at(kPeak, kBandwidth));
  const PlannedLoad load{.input_len = 600, .output_len = 60, .most_sequences = 200};
  const LoadModel model(times, load);
  for (const double share : {0.2, 0.5, 0.75}) {
    const double rate = share * model.most()->requests_per_s;
    const SteadyState said = *model.at(rate);
    const Simulated is = simulate(times, load, rate, 7);
    EXPECT_NEAR(said.tpot_s / is.tpot_s, 1, 0.1) << share;
    EXPECT_NEAR(said.ttft_s / is.ttft_s, 1, 0.15) << share;
    EXPECT_NEAR(said.batch / is.batch, 1, 0.15) << share;
  }
}

}  // namespace
}  // namespace redline
