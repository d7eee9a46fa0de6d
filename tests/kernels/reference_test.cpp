// The oracle itself, against values worked out by hand or by another formula.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernels/convert.h"
#include "kernels/ops.h"
#include "tests/kernels/ragged_batch.h"

namespace redline {
namespace {

class Reference : public ::testing::Test {
 protected:
  // A step of `tokens` rows and nothing else.
  void begin_rows(std::int64_t tokens) {
    ids_.assign(static_cast<std::size_t>(tokens), 0);
    slots_.assign(ids_.size(), 0);
    work_.assign(1, SequenceWork{});
    work_[0].num_new = static_cast<std::int32_t>(tokens);
    ops->begin_step({work_, ids_, ids_, slots_, {}, {}});
  }
  static MatrixSource f32_source(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
    return {DType::kF32, rows, cols, [&values, cols](std::int64_t i) {
              return reinterpret_cast<const std::byte*>(values.data() + i * cols);
            }};
  }

  std::unique_ptr<Ops> ops = make_reference_ops();
  std::mt19937 random{1};

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::int64_t> slots_;
  std::vector<SequenceWork> work_;
};

TEST_F(Reference, LinearIsRowsTimesColumns) {
  const std::vector<float> weight = {1, 2, 3, -4, 5, 6};
  std::vector<float> x = {1, 10, 100, 0.5f, 0, -1}, out(4);
  const PackedMatrix packed = ops->pack(f32_source(weight, 2, 3));
  EXPECT_EQ(ops->packed_bytes(DType::kF32, 2, 3), 24);
  begin_rows(2);
  ops->linear(f32_view(out.data(), 2, 2), f32_view(x.data(), 2, 3), packed.view, Part::kFfn);
  EXPECT_EQ(out, (std::vector<float>{321, 646, -2.5f, -8}));
}

TEST_F(Reference, GatedLinearIsTwoLinearsAndTheActivation) {
  const std::vector<float> gate = random_floats(5 * 7, random), up = random_floats(5 * 7, random);
  std::vector<float> x = random_floats(3 * 7, random), out(15), g(15), u(15), expected(15);
  const PackedMatrix both = ops->pack_gate_up(f32_source(gate, 5, 7), f32_source(up, 5, 7));
  const PackedMatrix gates = ops->pack(f32_source(gate, 5, 7)), ups = ops->pack(f32_source(up, 5, 7));
  begin_rows(3);
  const TensorView input = f32_view(x.data(), 3, 7);
  ops->linear_silu_mul(f32_view(out.data(), 3, 5), input, both.view);
  ops->linear(f32_view(g.data(), 3, 5), input, gates.view, Part::kFfn);
  ops->linear(f32_view(u.data(), 3, 5), input, ups.view, Part::kFfn);
  ops->silu_mul(f32_view(expected.data(), 3, 5), f32_view(g.data(), 3, 5), f32_view(u.data(), 3, 5));
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_NEAR(out[i], expected[i], 1e-5f);
    EXPECT_NEAR(expected[i], g[i] / (1 + std::exp(-g[i])) * u[i], 1e-5f);
  }
}

TEST_F(Reference, NormDividesByTheRootMeanSquare) {
  std::vector<float> x = {3, 4, 0, 0}, delta = {0, 0, 0, 12}, out(4);
  const std::vector<float> weight = {1, 2, 1, 1};
  begin_rows(1);
  ops->rms_norm(f32_view(out.data(), 1, 4), f32_view(x.data(), 1, 4), weight.data(), 0);
  EXPECT_EQ(out, (std::vector<float>{1.2f, 3.2f, 0, 0}));
  ops->add_rms_norm(f32_view(out.data(), 1, 4), f32_view(x.data(), 1, 4), f32_view(delta.data(), 1, 4),
                    weight.data(), 0);
  EXPECT_EQ(x, (std::vector<float>{3, 4, 0, 12}));
  EXPECT_FLOAT_EQ(out[3], 12 / 6.5f);
}

TEST_F(Reference, ANormAfterABlockScalesWhatJoinsTheResidual) {
  std::vector<float> residual = {1, 1, 1, 1}, delta = {3, 4, 0, 0}, out(4);
  const std::vector<float> weight = {1, 2, 1, 1};
  begin_rows(1);
  ops->rms_norm_add(f32_view(out.data(), 1, 4), f32_view(residual.data(), 1, 4), f32_view(delta.data(), 1, 4),
                    weight.data(), 0);
  EXPECT_EQ(residual, (std::vector<float>{2.2f, 4.2f, 1, 1}));
  EXPECT_EQ(out, residual);
}

TEST_F(Reference, EmbeddingRowsAreScaled) {
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};
  std::vector<float> out(3);
  const PackedMatrix packed = ops->pack(f32_source(table, 2, 3));
  begin_rows(1);
  ops->embed(f32_view(out.data(), 1, 3), packed.view, 2.5f);
  EXPECT_EQ(out, (std::vector<float>{2.5f, 5, 7.5f}));
}

TEST_F(Reference, BiasesComeBeforeNormsAndNormsBeforeTheRotation) {
  constexpr int kDim = 2;
  const RaggedBatch batch({{.num_new = 1}}, 16, 2, random);
  KvLayerView kv{nullptr, DType::kF32, batch.num_blocks(), 16, 1, kDim};
  const Buffer cache(static_cast<std::size_t>(kv.num_blocks * kv.block_bytes()));
  kv.data = cache.data();
  const float cos = 0, sin = 1;  // (a, b) becomes (-b, a)
  const std::vector<float> bias = {1, 0, 0, 2, 0, 0, 5, 6};
  const auto row_of = [&](bool joined, const std::vector<float>& q_norm) {
    const std::vector<float> k_norm = {2, 1};
    std::vector<float> row = {2, 4, 6, 6, /*k*/ 6, 8, /*v*/ 1, 1};  // with its bias, q is 3, 4 and 6, 8
    ops->begin_step(batch.view());
    ops->rope_and_store_kv(f32_view(row.data(), 1, 8), 2,
                           {.rope = {&cos, &sin, 1, kDim},
                            .bias = bias.data(),
                            .q_norm = q_norm.data(),
                            .k_norm = k_norm.data(),
                            .norm_joins_heads = joined,
                            .norm_eps = 0},
                           kv);
    const std::int64_t block = batch.view().block_tables[0];
    const auto stored = [&](const std::byte* tile, std::int64_t index) {
      float value;
      std::memcpy(&value, tile + 4 * index, 4);
      return value;
    };
    const float rms = std::sqrt(50.0f);
    EXPECT_FLOAT_EQ(stored(kv.k_tile(block, 0), kv.k_index(0, 0)), -8 / rms);
    EXPECT_FLOAT_EQ(stored(kv.k_tile(block, 0), kv.k_index(0, 1)), 12 / rms);
    EXPECT_EQ(stored(kv.v_tile(block, 0), kv.v_index(0, 0)), 6);
    EXPECT_EQ(stored(kv.v_tile(block, 0), kv.v_index(0, 1)), 7);
    return row;
  };
  const float rms = std::sqrt(12.5f), both = std::sqrt(31.25f);
  const std::vector<float> each = row_of(false, {1, 10});
  const float expected_each[] = {-40 / rms, 3 / rms, -80 / (2 * rms), 6 / (2 * rms)};
  const std::vector<float> joined = row_of(true, {1, 2, 3, 4});
  const float expected_joined[] = {-8 / both, 3 / both, -32 / both, 18 / both};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(each[i], expected_each[i]);
    EXPECT_FLOAT_EQ(joined[i], expected_joined[i]);
  }
}

TEST_F(Reference, UnpackedRowsAreTheSourceDequantised) {
  for (int t = 0; t < kNumDTypes; ++t) {
    const auto dtype = static_cast<DType>(t);
    constexpr std::int64_t kCols = 512;
    const std::int64_t bytes = row_bytes(dtype, kCols);
    std::vector<std::byte> source(static_cast<std::size_t>(3 * bytes));
    for (std::byte& b : source) b = static_cast<std::byte>(random() & 0x3f);
    const PackedMatrix packed =
        ops->pack({dtype, 3, kCols, [&](std::int64_t i) { return source.data() + i * bytes; }});
    EXPECT_EQ(packed.view.type_bytes, 3 * bytes);
    for (int i = 0; i < 3; ++i) {
      std::vector<float> expected(kCols), out(kCols);
      dequantize_row(dtype, source.data() + i * bytes, kCols, expected.data());
      ops->unpack_row(packed.view, i, out.data());
      EXPECT_EQ(out, expected);
    }
  }
}

TEST_F(Reference, RopeRotatesPairsAcrossTheHalvesAndStoresKAndV) {
  constexpr int kDim = 6, kRotary = 4;  // pairs (0, 2) and (1, 3) turn, 4 and 5 pass through
  std::vector<float> cos(2 * 8, 1), sin(2 * 8, 0);
  cos[2 * 5] = 0, sin[2 * 5] = 1;  // position 5: the first pair turns by 90 degrees
  const RaggedBatch batch({{.num_cached = 5, .num_new = 1}}, 16, 2, random);
  std::vector<float> qkv = {1, 2, 3, 4, 5, 6, /*k*/ 10, 20, 30, 40, 50, 60, /*v*/ 7, 8, 9, 10, 11, 12};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    KvLayerView kv{nullptr, dtype, batch.num_blocks(), 16, 1, kDim};
    const Buffer cache(static_cast<std::size_t>(kv.num_blocks * kv.block_bytes()));
    kv.data = cache.data();
    std::vector<float> row = qkv;
    ops->begin_step(batch.view());
    ops->rope_and_store_kv(f32_view(row.data(), 1, 18), 1, {cos.data(), sin.data(), 8, kRotary}, kv);
    EXPECT_EQ(std::vector<float>(row.begin(), row.begin() + 6), (std::vector<float>{-3, 2, 1, 4, 5, 6}));
    const float k[] = {-30, 20, 10, 40, 50, 60};
    const std::int64_t block = batch.view().block_tables[0];
    for (int i = 0; i < kDim; ++i) {
      float stored_k, stored_v;
      dequantize_row(dtype, kv.k_tile(block, 0) + kv.element_bytes() * kv.k_index(5, i), 1, &stored_k);
      dequantize_row(dtype, kv.v_tile(block, 0) + kv.element_bytes() * kv.v_index(5, i), 1, &stored_v);
      EXPECT_EQ(stored_k, k[i]);
      EXPECT_EQ(stored_v, static_cast<float>(7 + i));
    }
  }
}

TEST_F(Reference, AttentionIsCausalAndWeighsByTheSoftmaxOfTheScores) {
  constexpr int kDim = 2;
  const RaggedBatch batch({{.num_new = 2}}, 16, 2, random);
  KvLayerView kv{nullptr, DType::kF32, batch.num_blocks(), 16, 1, kDim};
  const Buffer cache(static_cast<std::size_t>(kv.num_blocks * kv.block_bytes()));
  kv.data = cache.data();
  const float ln2 = std::numbers::ln2_v<float>;
  // Two query heads share one KV head. Scores of token 1's first head: 0 and ln 2; of its second: 0 and 0.
  std::vector<float> qkv = {1, 1, 1, 1, 0,   0, 3, 6,  //
                            1, 0, 0, 1, ln2, 0, 9, 12};
  const std::vector<float> cos(2, 1), sin(2, 0);
  std::vector<float> out(8);
  ops->begin_step(batch.view());
  ops->rope_and_store_kv(f32_view(qkv.data(), 2, 8), 2, {cos.data(), sin.data(), 2, 2}, kv);
  ops->paged_attention(f32_view(out.data(), 2, 4), f32_view(qkv.data(), 2, 8), 2, kv, 1);
  const float expected[] = {3, 6, 3, 6, 7, 10, 6, 9};
  for (int i = 0; i < 8; ++i) EXPECT_NEAR(out[static_cast<std::size_t>(i)], expected[i], 2e-6f) << i;
  ops->paged_attention(f32_view(out.data(), 2, 4), f32_view(qkv.data(), 2, 8), 2, kv, 1, /*window=*/1);
  const float own[] = {3, 6, 3, 6, 9, 12, 9, 12};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], own[i]) << i;
}

TEST_F(Reference, RowsAndBlocksAreCopiedWhole) {
  const RaggedBatch batch({{.num_new = 3, .num_logit_rows = 2}, {.num_new = 2}}, 16, 2, random);
  std::vector<float> x = {0, 1, 10, 11, 20, 21, 30, 31, 40, 41}, out(6);
  ops->begin_step(batch.view());
  ops->gather_rows(f32_view(out.data(), 3, 2), f32_view(x.data(), 5, 2));
  EXPECT_EQ(out, (std::vector<float>{10, 11, 20, 21, 40, 41}));

  KvLayerView layers[2] = {{nullptr, DType::kBF16, 4, 16, 2, 8}, {nullptr, DType::kBF16, 4, 16, 2, 8}};
  const auto bytes = static_cast<std::size_t>(layers[0].block_bytes());
  const Buffer cache(8 * bytes);
  for (std::size_t i = 0; i < 8 * bytes; ++i) cache.data()[i] = static_cast<std::byte>(i / bytes);
  layers[0].data = cache.data();
  layers[1].data = cache.data() + 4 * bytes;
  const BlockCopy copies[] = {{0, 2}, {2, 3}};  // in order: block 3 receives block 0
  ops->copy_kv_blocks(layers, copies);
  const int expected[] = {0, 1, 0, 0, 4, 5, 4, 4};
  for (std::size_t i = 0; i < 8 * bytes; ++i)
    ASSERT_EQ(std::to_integer<int>(cache.data()[i]), expected[i / bytes]) << i;
}

}  // namespace
}  // namespace redline
