// Paged attention of every CPU kernel set: against the reference on ragged shapes, and bit for bit against
// itself however the work is cut. Unused slots of the cache hold NaN.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "kernels/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/kv_row.h"
#include "tests/kernels/kernels_under_test.h"
#include "tests/kernels/ragged_batch.h"

namespace redline {
namespace {

struct Shape {
  int num_q_heads, num_kv_heads, head_dim, block_size;
  DType cache;
  int window = 0;
};

std::string describe(const Shape& s) {
  return std::to_string(s.num_q_heads) + ":" + std::to_string(s.num_kv_heads) + " heads of " +
         std::to_string(s.head_dim) + ", blocks of " + std::to_string(s.block_size) + ", cache " +
         name(s.cache) + ", window " + std::to_string(s.window);
}

/// One layer's cache, every byte of it NaN until written.
class Cache {
 public:
  Cache(const Shape& shape, std::int64_t num_blocks)
      : view_{nullptr, shape.cache, num_blocks, shape.block_size, shape.num_kv_heads, shape.head_dim},
        storage_(static_cast<std::size_t>(num_blocks * view_.block_bytes())) {
    view_.data = storage_.data();
    std::memset(storage_.data(), 0xff, storage_.size());
  }
  const KvLayerView& view() const { return view_; }

  /// Writes head h's K and V of the token in `slot`: `values` is [Hkv, d] of K, then of V.
  void put(std::int64_t slot, const float* values) {
    const std::int64_t block = slot / view_.block_size;
    const int offset = static_cast<int>(slot % view_.block_size), d = view_.head_dim;
    for (int h = 0; h < view_.num_kv_heads; ++h) {
      write_kv_row(view_, KvSide::kKey, view_.k_tile(block, h), offset, values + h * d);
      write_kv_row(view_, KvSide::kValue, view_.v_tile(block, h), offset,
                   values + (view_.num_kv_heads + h) * d);
    }
  }

 private:
  KvLayerView view_;
  Buffer storage_;
};

/// Everything that attention needs to know of a sequence's tokens: q [n, Hq d] and kv [n, 2 Hkv d].
struct Tokens {
  std::vector<float> q, kv;

  Tokens(const Shape& shape, int count, std::mt19937& random, float q_scale = 1)
      : q(random_floats(static_cast<std::size_t>(count * shape.num_q_heads * shape.head_dim), random,
                        q_scale)),
        kv(random_floats(static_cast<std::size_t>(count * 2 * shape.num_kv_heads * shape.head_dim), random)) {
  }
};

/// The first block that any query of the sequence sees.
int first_block(const Shape& shape, const SequenceWork& work) {
  return shape.window > 0 ? std::max(0, work.num_cached + 1 - shape.window) / shape.block_size : 0;
}

/// Runs one step of attention over sequences whose tokens are `tokens`; returns [T, Hq d].
std::vector<float> attend(Ops& ops, const Shape& shape, const std::vector<const Tokens*>& tokens,
                          const RaggedBatch& ragged) {
  const BatchView batch = ragged.view();
  Cache cache(shape, ragged.num_blocks());
  const std::int64_t q_cols = shape.num_q_heads * shape.head_dim;
  const std::int64_t kv_cols = 2 * shape.num_kv_heads * shape.head_dim;
  const std::int64_t cols = q_cols + kv_cols;
  std::vector<float> qkv(static_cast<std::size_t>(batch.num_tokens() * cols), NAN);
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    const SequenceWork& work = batch.sequences[s];
    for (int position = first_block(shape, work) * shape.block_size;
         position < work.num_cached + work.num_new; ++position) {
      const std::int64_t block =
          batch.block_tables[static_cast<std::size_t>(work.table_start + position / shape.block_size)];
      cache.put(block * shape.block_size + position % shape.block_size,
                tokens[s]->kv.data() + position * kv_cols);
    }
    for (int i = 0; i < work.num_new; ++i)
      std::copy_n(tokens[s]->q.begin() + (work.num_cached + i) * q_cols, q_cols,
                  qkv.begin() + (work.query_start + i) * cols);
  }
  std::vector<float> out(static_cast<std::size_t>(batch.num_tokens() * q_cols), NAN);
  ops.begin_step(batch);
  ops.paged_attention(f32_view(out.data(), batch.num_tokens(), q_cols),
                      f32_view(qkv.data(), batch.num_tokens(), cols), shape.num_q_heads, cache.view(),
                      1 / std::sqrt(static_cast<float>(shape.head_dim)), shape.window);
  return out;
}

class CpuAttention : public ::testing::TestWithParam<cpu::KernelTable> {
 protected:
  std::unique_ptr<Ops> make_ops(int threads) const { return std::make_unique<CpuOps>(GetParam(), threads); }
  // Tiles hold 16 bits of queries and weights, where the others hold 24.
  static double precision() { return name_of(GetParam()).find("amx") != std::string::npos ? 10 : 1; }

  const unsigned seed = std::random_device{}();
  ::testing::ScopedTrace trace{__FILE__, __LINE__, "seed " + std::to_string(seed)};
  std::mt19937 random{seed};
};

constexpr Shape kShapes[] = {
    {9, 3, 64, 16, DType::kBF16},       {7, 1, 32, 16, DType::kBF16},      {4, 4, 128, 32, DType::kBF16},
    {14, 2, 64, 64, DType::kF32},       {2, 2, 40, 16, DType::kBF16},      {6, 3, 34, 32, DType::kF32},
    {64, 1, 32, 16, DType::kBF16},      {5, 1, 2, 16, DType::kBF16},       {2, 1, 256, 48, DType::kBF16},
    {8, 2, 80, 16, DType::kF32},        {9, 3, 64, 16, DType::kBF16, 1},   {7, 1, 32, 16, DType::kBF16, 31},
    {6, 2, 40, 16, DType::kBF16, 17},   {14, 2, 64, 64, DType::kF32, 270}, {4, 4, 34, 32, DType::kF32, 16},
    {3, 1, 128, 16, DType::kBF16, 300}, {9, 3, 64, 16, DType::kQ8_0},      {4, 2, 96, 32, DType::kQ8_0, 31},
    {16, 1, 256, 48, DType::kQ8_0},     {64, 1, 32, 16, DType::kQ8_0, 300}};

TEST_P(CpuAttention, EqualsTheReferenceOnRaggedBatches) {
  const std::vector<RaggedSequence> sequences = {
      {.num_cached = 0, .num_new = 1},
      {.num_cached = 63, .num_new = 1, .phase = Phase::kDecode},
      {.num_cached = 0, .num_new = 37},
      {.num_cached = 254, .num_new = 5},
      {.num_cached = 529, .num_new = 1, .phase = Phase::kDecode},
      {.num_cached = 17, .num_new = 2},
  };
  const std::unique_ptr<Ops> reference = make_reference_ops();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(describe(shape));
    for (const float q_scale : {1.0f, 30.0f}) {  // smooth, and sharp enough that most weights vanish
      std::vector<Tokens> tokens;
      std::vector<const Tokens*> pointers;
      for (const RaggedSequence& s : sequences)
        tokens.emplace_back(shape, s.num_cached + s.num_new, random, q_scale);
      for (const Tokens& t : tokens) pointers.push_back(&t);
      const RaggedBatch batch(sequences, shape.block_size, 2, random);
      const std::vector<float> expected = attend(*reference, shape, pointers, batch);
      const std::vector<float> out = attend(*make_ops(2), shape, pointers, batch);
      double worst = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_FALSE(std::isnan(out[i])) << i;
        worst = std::max(worst, std::abs(static_cast<double>(out[i]) - expected[i]));
      }
      // A score is a sum of head_dim products: what rounding does to it, and so to its weight, grows with
      // both.
      EXPECT_LT(worst, (q_scale > 1 ? 1e-4 : 3e-6) * precision() * std::max(1.0, shape.head_dim / 64.0));
    }
  }
}

TEST_P(CpuAttention, ReadsBlocksThatSequencesShare) {
  const Shape shape{6, 2, 64, 16, DType::kBF16};
  const Tokens first(shape, 80, random);
  Tokens second(shape, 80, random);
  std::copy_n(first.kv.begin(), 48 * 4 * 64, second.kv.begin());
  RaggedBatch batch({{.num_cached = 79, .num_new = 1}, {.num_cached = 48, .num_new = 32}}, 16, 2, random);
  batch.share_blocks(1, 0, 3, 16);
  const std::vector<float> expected = attend(*make_reference_ops(), shape, {&first, &second}, batch);
  const std::vector<float> out = attend(*make_ops(2), shape, {&first, &second}, batch);
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 3e-6 * precision()) << i;
}

// The rows of `sequence` in a batch's output.
std::vector<float> rows_of(const std::vector<float>& out, const RaggedBatch& batch, std::size_t sequence,
                           std::int64_t cols) {
  const SequenceWork& work = batch.view().sequences[sequence];
  return {out.begin() + work.query_start * cols, out.begin() + (work.query_start + work.num_new) * cols};
}

TEST_P(CpuAttention, GivesTheSameBitsHoweverTheWorkIsCut) {
  constexpr int kLength = 600;
  for (const Shape& shape : {Shape{3, 1, 64, 16, DType::kBF16}, Shape{7, 1, 32, 16, DType::kF32},
                             Shape{3, 1, 64, 16, DType::kBF16, 37}, Shape{7, 1, 40, 16, DType::kF32, 270},
                             Shape{9, 3, 64, 16, DType::kQ8_0}, Shape{3, 1, 32, 16, DType::kQ8_0, 37}}) {
    const std::int64_t cols = shape.num_q_heads * shape.head_dim;
    const Tokens tokens(shape, kLength, random), other(shape, 300, random);
    const RaggedBatch whole({{.num_new = kLength}}, 16, 2, random);
    const std::vector<float> expected = attend(*make_ops(1), shape, {&tokens}, whole);
    const auto expect_rows = [&](const std::vector<float>& rows, int first_token, const std::string& how) {
      EXPECT_EQ(std::memcmp(rows.data(), expected.data() + first_token * cols, rows.size() * sizeof(float)),
                0)
          << how;
    };

    for (int threads : {2, 3}) expect_rows(attend(*make_ops(threads), shape, {&tokens}, whole), 0, "threads");
    for (int block_size : {32, 48}) {
      Shape blocks = shape;
      blocks.block_size = block_size;
      const RaggedBatch batch({{.num_new = kLength}}, block_size, 2, random);
      expect_rows(attend(*make_ops(2), blocks, {&tokens}, batch), 0, "block size");
    }
    // Chunks of a prompt, and single tokens, alone and beside another sequence.
    for (int trial = 0; trial < 24; ++trial) {
      const int edges[] = {0, 1, 255, 256, 257, 511, 512, kLength - 1};
      const int first = trial < 8 ? edges[trial] : static_cast<int>(random() % kLength);
      const int count =
          trial < 12 ? 1 : 1 + static_cast<int>(random() % static_cast<unsigned>(kLength - first));
      const std::string how = std::to_string(count) + " tokens after " + std::to_string(first);
      const RaggedSequence chunk{.num_cached = first, .num_new = count};
      const RaggedBatch alone({chunk}, 16, 2, random);
      expect_rows(attend(*make_ops(1 + trial % 3), shape, {&tokens}, alone), first, how);
      const RaggedBatch beside({{.num_cached = 290, .num_new = 10}, chunk}, 16, 2, random);
      const std::vector<float> out = attend(*make_ops(2), shape, {&other, &tokens}, beside);
      expect_rows(rows_of(out, beside, 1, cols), first, how + ", beside others");
    }
  }
}

TEST_P(CpuAttention, LongContextsMergeTheirSegments) {
  const Shape shape{3, 1, 32, 16, DType::kBF16};
  const Tokens tokens(shape, 2100, random, 3);
  const std::int64_t cols = shape.num_q_heads * shape.head_dim;
  const RaggedBatch decode({{.num_cached = 2099, .num_new = 1, .phase = Phase::kDecode}}, 16, 2, random);
  const std::vector<float> expected = attend(*make_reference_ops(), shape, {&tokens}, decode);
  const std::vector<float> whole = attend(*make_ops(1), shape, {&tokens}, decode);
  const std::vector<float> cut = attend(*make_ops(3), shape, {&tokens}, decode);
  EXPECT_EQ(std::memcmp(whole.data(), cut.data(), whole.size() * sizeof(float)), 0);
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], expected[i], 1e-5 * precision()) << i;
  const RaggedBatch chunk({{.num_cached = 2000, .num_new = 100}}, 16, 2, random);
  const std::vector<float> rows = attend(*make_ops(3), shape, {&tokens}, chunk);
  EXPECT_EQ(std::memcmp(rows.data() + 99 * cols, whole.data(), whole.size() * sizeof(float)), 0);
}

TEST_P(CpuAttention, ANaNInTheQueryShowsInItsRowAlone) {
  const Shape shape{2, 2, 64, 16, DType::kBF16};
  Tokens tokens(shape, 20, random);
  tokens.q[2 * 2 * 64 + 5] = NAN;  // token 2, head 0
  const RaggedBatch batch({{.num_new = 20}}, 16, 2, random);
  const std::vector<float> out = attend(*make_ops(2), shape, {&tokens}, batch);
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 64 == 2 * 2) << i;
}

INSTANTIATE_TEST_SUITE_P(, CpuAttention, ::testing::ValuesIn(kernels_under_test()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace redline
