#include <gtest/gtest.h>

#include "kernels/cuda/runtime.h"
#include "tests/cuda/attention_case.h"

namespace redline::cuda {
namespace {

AttentionShape shape_of(int num_q_heads, int num_kv_heads, int head_dim, DType activations = DType::kBF16,
                        DType cache = DType::kBF16) {
  AttentionShape shape{num_q_heads, num_kv_heads, head_dim, activations, cache, 3, AttentionRung::kPlain};
  shape.rung = highest_attention_rung(shape, 16, 80);
  return shape;
}
AttentionShape on_rung(AttentionShape shape, AttentionRung rung) {
  shape.rung = rung;
  return shape;
}
AttentionShape plain(const AttentionShape& shape) { return on_rung(shape, AttentionRung::kPlain); }
AttentionShape wgmma(const AttentionShape& shape) { return on_rung(shape, AttentionRung::kWgmma); }

std::string describe(const AttentionCase& c) {
  return std::to_string(c.shape.num_q_heads) + "/" + std::to_string(c.shape.num_kv_heads) + " heads of " +
         std::to_string(c.shape.head_dim) + ", activations " + name(c.shape.activation_type) + ", cache " +
         name(c.shape.cache_type) + ", rung " + std::to_string(static_cast<int>(c.shape.rung)) + ", window " +
         std::to_string(c.window) + ", blocks of " + std::to_string(c.block_size) + ", " +
         std::to_string(c.shape.num_sms) + " SMs, seed " + std::to_string(c.seed);
}

/// Whether the device runs the case's rung: another than Hopper has no wgmma.
bool runs_here(const AttentionCase& c) {
  if (c.shape.rung != AttentionRung::kWgmma || dev::kEmulated) return true;
  const dev::DeviceProperties device = dev::device_properties();
  return device.compute_major == 9 && device.compute_minor == 0;
}

/// Every value within what the arithmetic allows, and nothing else written.
void expect_right(const AttentionCase& c, const AttentionStep& step, const StoredValues& out) {
  SCOPED_TRACE(describe(c));
  const auto stride = static_cast<std::size_t>(step.out_stride());
  const auto d = static_cast<std::size_t>(c.shape.head_dim);
  double worst = 0;
  for (const SequenceWork& s : step.work())
    for (int row = 0; row < s.num_new; ++row) {
      const std::size_t start = static_cast<std::size_t>(s.query_start + row) * stride;
      for (int head = 0; head < c.shape.num_q_heads; ++head) {
        const auto want = step.answer(s, row, head);
        for (std::size_t e = 0; e < d; ++e) {
          const double got = out.get(start + static_cast<std::size_t>(head) * d + e);
          const double allowed = step.tolerance(want, e, std::min(c.window, s.num_cached + row + 1));
          const double error = std::abs(got - want.value[e]);
          ASSERT_LE(error, allowed) << "cached " << s.num_cached << " new " << s.num_new << " row " << row
                                    << " head " << head << " column " << e << ": " << got << " for "
                                    << want.value[e];
          worst = std::max(worst, error / allowed);
        }
      }
      for (std::size_t i = static_cast<std::size_t>(c.shape.num_q_heads) * d; i < stride; ++i)
        ASSERT_TRUE(std::isnan(out.get(start + i))) << "written beyond the row's end";
    }
  if (c.window > 1) {
    EXPECT_GT(worst, 0) << "suspiciously exact";
  }
}

void expect_right(const AttentionCase& c) {
  if (!runs_here(c)) return;
  const AttentionStep step(c);
  expect_right(c, step, step.run());
}

// One sequence computes a token; the next ones several, some after a cached prefix.
const std::vector<AttentionSequence> kMixed = {{0, 1},  {14, 1}, {15, 1},  {0, 15},  {16, 1}, {0, 17},
                                               {63, 1}, {64, 1}, {13, 70}, {128, 1}, {37, 2}, {200, 1}};

class AttentionOfShape : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(AttentionOfShape, EqualsDoublePrecisionOnMixedBatchesInEveryType) {
  const auto [num_q_heads, num_kv_heads, head_dim] = GetParam();
  expect_right({kMixed, shape_of(num_q_heads, num_kv_heads, head_dim), 16, 1});
  expect_right({kMixed, plain(shape_of(num_q_heads, num_kv_heads, head_dim)), 16, 2});
  for (const DType activations : {DType::kBF16, DType::kF32})
    for (const DType cache : {DType::kBF16, DType::kF32})
      if (activations != cache)
        expect_right({{{40, 1}, {0, 20}, {130, 1}},
                      shape_of(num_q_heads, num_kv_heads, head_dim, activations, cache),
                      16,
                      3});
  expect_right(
      {{{3, 17}, {77, 1}}, shape_of(num_q_heads, num_kv_heads, head_dim, DType::kF32, DType::kF32), 16, 4});
}

TEST(CudaAttention, EqualsDoublePrecisionOnMixedBatchesWithWgmma) {
  for (const auto& [num_q_heads, num_kv_heads, head_dim] :
       {std::tuple{2, 1, 64}, std::tuple{1, 1, 80}, std::tuple{3, 3, 96}, std::tuple{4, 2, 128},
        std::tuple{1, 1, 136}, std::tuple{2, 1, 256}})
    expect_right({kMixed, wgmma(shape_of(num_q_heads, num_kv_heads, head_dim)), 16, 14});
}

INSTANTIATE_TEST_SUITE_P(Cuda, AttentionOfShape,
                         testing::Values(std::tuple{1, 1, 64}, std::tuple{9, 3, 64}, std::tuple{7, 1, 128},
                                         std::tuple{2, 2, 96}, std::tuple{6, 2, 80}, std::tuple{16, 1, 128},
                                         std::tuple{20, 1, 32}, std::tuple{4, 2, 256}, std::tuple{3, 1, 200},
                                         std::tuple{11, 1, 256}, std::tuple{3, 1, 8}, std::tuple{2, 1, 20},
                                         std::tuple{5, 1, 2}),
                         [](const auto& shape) {
                           return std::to_string(std::get<0>(shape.param)) + "_" +
                                  std::to_string(std::get<1>(shape.param)) + "_" +
                                  std::to_string(std::get<2>(shape.param));
                         });

TEST(CudaAttention, SeesTheWindowAloneOnEveryRung) {
  const std::vector<AttentionSequence> sequences = {{0, 1},   {18, 1},  {19, 1},   {200, 1}, {144, 1},
                                                    {64, 17}, {0, 150}, {177, 70}, {63, 3},  {130, 2}};
  const AttentionShape shape = shape_of(4, 2, 64);
  for (const int window : {1, 19, 80})
    for (const AttentionRung rung : {AttentionRung::kPlain, AttentionRung::kMma, AttentionRung::kWgmma})
      expect_right({sequences, on_rung(shape, rung), 16, 16, window});
}

TEST(CudaAttention, SeesTheWindowAloneInHeadsAndBlocksOfAnySize) {
  const std::vector<AttentionSequence> sequences = {{90, 1}, {40, 75}, {3, 40}, {221, 3}};
  for (const auto& [num_q_heads, num_kv_heads, head_dim] :
       {std::tuple{1, 1, 80}, std::tuple{7, 1, 128}, std::tuple{2, 1, 256}})
    for (const AttentionRung rung : {AttentionRung::kMma, AttentionRung::kWgmma})
      expect_right({sequences, on_rung(shape_of(num_q_heads, num_kv_heads, head_dim), rung), 48, 17, 37});
  for (const int block_size : {2, 6, 10}) expect_right({sequences, shape_of(4, 2, 96), block_size, 18, 23});
  for (const int head_dim : {20, 64})
    expect_right({sequences, plain(shape_of(3, 1, head_dim, DType::kF32, DType::kF32)), 10, 19, 23});
}

TEST(CudaAttention, ReadsCachesOfAnyEvenBlockSize) {
  for (const int block_size : {2, 6, 10, 32, 48})
    for (const AttentionShape& shape : {shape_of(4, 2, 64), plain(shape_of(4, 2, 64))})
      expect_right({{{0, 1}, {49, 1}, {31, 80}, {0, 5}, {130, 1}}, shape, block_size, 5});
}

TEST(CudaAttention, SplitsLongContextsAmongBlocksWhateverTheirNumber) {
  for (const int num_sms : {1, 2, 5, 40}) {
    AttentionCase c{{{999, 1}, {0, 1}, {500, 1}, {127, 1}}, shape_of(8, 2, 64), 16, 6};
    c.shape.num_sms = num_sms;
    for (const AttentionRung rung : {AttentionRung::kPlain, AttentionRung::kMma, AttentionRung::kWgmma}) {
      c.shape.rung = rung;
      expect_right(c);
    }
  }
}

TEST(CudaAttention, AttendsLongPromptsAndChunksAfterThem) {
  for (const AttentionRung rung : {AttentionRung::kMma, AttentionRung::kWgmma}) {
    expect_right({{{0, 300}, {1000, 129}, {129, 1}}, on_rung(shape_of(2, 1, 128), rung), 16, 7});
    expect_right({{{257, 130}}, on_rung(shape_of(2, 1, 256), rung), 48, 8});
  }
}

TEST(CudaAttention, SplitsFewTokensAlongTheirPrefixWhateverTheHostToldOfThem) {
  for (const auto& [num_q_heads, num_kv_heads, head_dim] :
       {std::tuple{8, 2, 64}, std::tuple{7, 1, 128}, std::tuple{2, 2, 128}, std::tuple{16, 1, 64},
        std::tuple{2, 1, 256}}) {
    AttentionCase c{{{500, 4}, {0, 3}, {129, 2}, {62, 4}, {5, 1}, {190, 3}}, {}, 16, 15};
    c.shape = shape_of(num_q_heads, num_kv_heads, head_dim);
    const AttentionStep step(c);
    AttentionCounts counts = step.counts();
    ASSERT_EQ(counts.longest_split, 4);
    ASSERT_EQ(counts.num_prefill_tiles, 0);
    expect_right(c, step, step.run(1, counts));
    counts.longest_split = 1;
    expect_right(c, step, step.run(1, counts));
    c.shape.rung = AttentionRung::kWgmma;
    expect_right(c);
  }
}

TEST(CudaAttention, ChoosesTheHighestRungThatTypesSizesAndDeviceAllow) {
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 128), 16, 90), AttentionRung::kWgmma);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 128), 24, 90), AttentionRung::kMma);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 32), 16, 90), AttentionRung::kMma);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 128), 16, 100), AttentionRung::kMma);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 256), 16, 80), AttentionRung::kMma);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 256), 16, 89), AttentionRung::kPlain);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 20), 16, 90), AttentionRung::kPlain);
  EXPECT_EQ(highest_attention_rung(shape_of(8, 2, 128, DType::kF32), 16, 90), AttentionRung::kPlain);
}

TEST(CudaAttention, TakesBatchesOfOnePhase) {
  expect_right({{{0, 128}, {0, 129}}, shape_of(2, 1, 64), 16, 9});
  expect_right({{{0, 128}, {0, 129}}, wgmma(shape_of(2, 1, 64)), 16, 9});
  expect_right({{{100, 1}}, shape_of(2, 1, 64), 16, 10});
  expect_right({{{0, 2}}, shape_of(2, 1, 64), 16, 11});
}

TEST(CudaAttention, TakesMoreSequencesThanThePlanHasThreads) {
  std::mt19937 random(12);
  AttentionCase c{{}, shape_of(2, 1, 32), 16, 12};
  for (int i = 0; i < 300; ++i) c.sequences.push_back({static_cast<int>(random() % 90), i % 7 == 0 ? 3 : 1});
  expect_right(c);
  c.shape.rung = AttentionRung::kPlain;
  expect_right(c);
}

TEST(CudaAttention, RepeatsBitForBitOnOnePlan) {
  const AttentionShape shape_64 = shape_of(8, 2, 64);
  for (const AttentionShape& shape : {shape_64, plain(shape_64), wgmma(shape_64)}) {
    if (!runs_here({{}, shape})) continue;
    const AttentionStep step({{{999, 1}, {3, 40}, {500, 1}}, shape, 16, 13});
    EXPECT_EQ(step.run(1).bytes, step.run(3).bytes);
  }
}

TEST(CudaAttention, IsRightOnRandomBatches) {
  for (unsigned seed = 100; seed < 106; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const int kv_heads = 1 + below(3);
    AttentionCase c{
        {}, shape_of(kv_heads * (1 + below(9)), kv_heads, 8 * (1 + below(20))), 2 + 2 * below(12), seed};
    c.shape.num_sms = 1 + below(6);
    const int count = 1 + below(6);
    for (int i = 0; i < count; ++i) c.sequences.push_back({below(200), below(3) == 0 ? 1 + below(90) : 1});
    expect_right(c);
    c.shape.rung = AttentionRung::kPlain;
    expect_right(c);
    c.window = 1 + below(250);
    expect_right(c);
    c.shape.rung = highest_attention_rung(c.shape, c.block_size, 80);
    expect_right(c);
    c.block_size = 16 * (1 + below(3));
    c.shape.head_dim = 64 + 8 * below(17);
    c.shape.rung = AttentionRung::kWgmma;
    expect_right(c);
    c.window = kNoWindow;
    expect_right(c);
  }
}

}  // namespace
}  // namespace redline::cuda
