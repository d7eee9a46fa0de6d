// Norms, activation, rotary embedding and the cache's stores of every CPU kernel set, against the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/lanes_math.h"
#include "kernels/cpu/lanes_portable.h"
#include "kernels/kv_row.h"
#include "tests/kernels/kernels_under_test.h"
#include "tests/kernels/ragged_batch.h"

namespace redline {
namespace {

class CpuElementwise : public ::testing::TestWithParam<cpu::KernelTable> {
 protected:
  const unsigned seed = std::random_device{}();
  ::testing::ScopedTrace trace{__FILE__, __LINE__, "seed " + std::to_string(seed)};
  std::mt19937 random{seed};
  CpuOps ops{GetParam(), 2};
  std::unique_ptr<Ops> reference = make_reference_ops();
};

constexpr int kSizes[] = {1, 2, 15, 16, 17, 33, 576, 1000};

void expect_close(const std::vector<float>& out, const std::vector<float>& expected, float relative) {
  for (std::size_t i = 0; i < out.size(); ++i)
    ASSERT_NEAR(out[i], expected[i], relative * std::max(1.0f, std::abs(expected[i]))) << i;
}

TEST_P(CpuElementwise, NormsEqualTheReference) {
  for (int cols : kSizes)
    for (int rows : {1, 3, 40}) {
      const RaggedBatch batch({{.num_new = rows}}, 16, 2, random);
      const auto count = static_cast<std::size_t>(rows * cols);
      const std::vector<float> weight = random_floats(static_cast<std::size_t>(cols), random);
      const std::vector<float> x = random_floats(count, random), delta = random_floats(count, random);
      std::vector<float> out[2], residual[2] = {x, x}, in_place = x, d = delta, copied(count), sums[2];
      for (int i = 0; i < 2; ++i) {
        Ops& with = i ? ops : *reference;
        const auto view = [&](std::vector<float>& v) { return f32_view(v.data(), rows, cols); };
        out[i].resize(3 * count);
        with.begin_step(batch.view());
        with.rms_norm(f32_view(out[i].data(), rows, cols), view(residual[i]), weight.data(), 1e-5f);
        with.add_rms_norm(f32_view(out[i].data() + count, rows, cols), view(residual[i]), view(d),
                          weight.data(), 1e-5f);
        sums[i] = residual[i];
        with.rms_norm_add(f32_view(out[i].data() + 2 * count, rows, cols), view(residual[i]), view(d),
                          weight.data(), 1e-5f);
        EXPECT_EQ(residual[i],
                  std::vector<float>(out[i].end() - static_cast<std::ptrdiff_t>(count), out[i].end()));
        with.copy(view(copied), view(residual[i]));
        EXPECT_EQ(copied, residual[i]);
      }
      expect_close(out[1], out[0], 2e-6f);
      EXPECT_EQ(sums[1], sums[0]);
      ops.rms_norm(f32_view(in_place.data(), rows, cols), f32_view(in_place.data(), rows, cols),
                   weight.data(), 1e-5f);
      EXPECT_EQ(in_place,
                std::vector<float>(out[1].begin(), out[1].begin() + static_cast<std::ptrdiff_t>(count)));
    }
}

TEST_P(CpuElementwise, SiluEqualsTheReferenceAtAnyMagnitude) {
  for (int cols : kSizes) {
    const RaggedBatch batch({{.num_new = 3}}, 16, 2, random);
    const auto count = static_cast<std::size_t>(3 * cols);
    std::vector<float> gate = random_floats(count, random, 20), up = random_floats(count, random), out[2];
    gate[0] = -200, gate[1] = 1e30f, gate[2] = -1e30f;
    for (int i = 0; i < 2; ++i) {
      out[i].resize(count);
      Ops& with = i ? ops : *reference;
      with.begin_step(batch.view());
      with.silu_mul(f32_view(out[i].data(), 3, cols), f32_view(gate.data(), 3, cols),
                    f32_view(up.data(), 3, cols));
    }
    expect_close(out[1], out[0], 1e-6f);
  }
}

TEST_P(CpuElementwise, RopeAndTheCacheEqualTheReference) {
  struct Case {
    int num_q_heads, num_kv_heads, head_dim, rotary_dim, block_size;
    DType cache;
    bool bias = false, norm = false, norm_joins_heads = false;
  };
  for (const Case& c :
       {Case{9, 3, 64, 64, 16, DType::kBF16}, Case{4, 2, 40, 40, 32, DType::kBF16},
        Case{2, 1, 80, 32, 16, DType::kF32}, Case{3, 3, 2, 2, 16, DType::kBF16},
        Case{7, 1, 128, 128, 64, DType::kF32}, Case{5, 1, 34, 34, 16, DType::kF32, true},
        Case{3, 1, 40, 0, 16, DType::kF32}, Case{6, 3, 34, 34, 16, DType::kF32, false, true},
        Case{3, 1, 18, 18, 16, DType::kBF16, true, true, true},
        Case{9, 3, 66, 20, 32, DType::kF32, false, true, true}, Case{4, 2, 96, 96, 32, DType::kQ8_0},
        Case{3, 1, 64, 32, 16, DType::kQ8_0, true, true}}) {
    const RaggedBatch batch(
        {{.num_cached = 5, .num_new = 40}, {.num_cached = 99, .num_new = 1}, {.num_new = 1}}, c.block_size, 2,
        random);
    const std::int64_t tokens = batch.view().num_tokens();
    const std::int64_t cols = (c.num_q_heads + 2 * c.num_kv_heads) * c.head_dim;
    const std::vector<float> qkv = random_floats(static_cast<std::size_t>(tokens * cols), random);
    std::vector<float> cos, sin;
    for (float angle : random_floats(static_cast<std::size_t>(100 * c.rotary_dim / 2), random)) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    const std::vector<float> bias = random_floats(static_cast<std::size_t>(cols), random);
    const std::vector<float> q_norm = random_floats(static_cast<std::size_t>(cols), random);
    const std::vector<float> k_norm = random_floats(static_cast<std::size_t>(cols), random);
    const QkvTransform transform{.rope = {cos.data(), sin.data(), 100, c.rotary_dim},
                                 .bias = c.bias ? bias.data() : nullptr,
                                 .q_norm = c.norm ? q_norm.data() : nullptr,
                                 .k_norm = c.norm ? k_norm.data() : nullptr,
                                 .norm_joins_heads = c.norm_joins_heads,
                                 .norm_eps = 1e-5f};
    KvLayerView kv[2];
    Buffer cache[2];
    std::vector<float> rows[2] = {qkv, qkv};
    for (int i = 0; i < 2; ++i) {
      kv[i] = {nullptr, c.cache, batch.num_blocks(), c.block_size, c.num_kv_heads, c.head_dim};
      cache[i] = Buffer(static_cast<std::size_t>(kv[i].num_blocks * kv[i].block_bytes()));
      kv[i].data = cache[i].data();
      Ops& with = i ? ops : *reference;
      with.begin_step(batch.view());
      with.rope_and_store_kv(f32_view(rows[i].data(), tokens, cols), c.num_q_heads, transform, kv[i]);
      for (std::int64_t t = 0; t < tokens; ++t)  // keys and values are scratch from here on
        std::fill_n(rows[i].begin() + t * cols + c.num_q_heads * c.head_dim, 2 * c.num_kv_heads * c.head_dim,
                    0.0f);
    }
    expect_close(rows[1], rows[0], c.norm ? 3e-6f : 1e-6f);
    // A key near the middle of two bf16 or codes may round either way; values are copied and must agree
    // exactly.
    const float tolerance = c.cache == DType::kQ8_0   ? 0x1p-5f
                            : c.cache == DType::kBF16 ? 0x1p-7f  // one step
                            : c.norm                  ? 3e-6f
                                                      : 1e-6f;
    for (std::int64_t block = 0; block < kv[0].num_blocks; ++block)
      for (int h = 0; h < c.num_kv_heads; ++h) {
        EXPECT_EQ(std::memcmp(kv[0].v_tile(block, h), kv[1].v_tile(block, h),
                              static_cast<std::size_t>(kv[0].tile_bytes())),
                  0);
        std::vector<float> k[2];
        for (int i = 0; i < 2; ++i) {
          for (int offset = 0; offset < c.block_size; ++offset)
            for (int d = 0; d < c.head_dim; ++d)
              k[i].push_back(read_kv(kv[i], KvSide::kKey, kv[i].k_tile(block, h), offset, d));
        }
        expect_close(k[1], k[0], tolerance);
      }
  }
}

TEST_P(CpuElementwise, StoredValuesRoundToNearestEvenAndKeepNaN) {
  const RaggedBatch batch({{.num_new = 1}}, 16, 2, random);
  KvLayerView kv{nullptr, DType::kBF16, batch.num_blocks(), 16, 1, 16};
  const Buffer cache(static_cast<std::size_t>(kv.num_blocks * kv.block_bytes()));
  kv.data = cache.data();
  std::vector<float> qkv(48, 0.0f);
  const float values[16] = {1.0f,
                            -0.0f,
                            std::bit_cast<float>(0x3f808000u),
                            std::bit_cast<float>(0x3f818000u),
                            1e-40f,
                            -3e38f,
                            INFINITY,
                            NAN,
                            3.4028e38f,
                            1.00391f,
                            std::bit_cast<float>(0x7f800001u),
                            5.0f,
                            0.1f,
                            -0.1f,
                            std::bit_cast<float>(0x00008000u),
                            std::bit_cast<float>(0x00018000u)};
  std::copy_n(values, 16, qkv.begin() + 32);
  const float one = 1, zero = 0;
  ops.begin_step(batch.view());
  ops.rope_and_store_kv(f32_view(qkv.data(), 1, 48), 1, {&one, &zero, 1, 2}, kv);
  const std::int64_t block = batch.view().block_tables[0];
  for (int i = 0; i < 16; ++i) {
    const std::uint16_t stored = load_u16(kv.v_tile(block, 0) + 2 * kv.v_index(0, i));
    if (std::isnan(values[i]))
      EXPECT_TRUE(std::isnan(bf16_to_f32(stored)));
    else
      EXPECT_EQ(stored, f32_to_bf16(values[i])) << values[i];
  }
}

TEST(LanesMath, PowersOfTwoAreWithinAnUlpAndAHalf) {
  const auto exp2_of = [](float x) {
    float out[16];
    cpu::exp2(cpu::Lanes::broadcast(x)).store(out);
    return out[0];
  };
  double worst = 0;
  for (float x = -125.99f; x < 127; x += 0.000317f) {
    const double exact = std::exp2(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(exp2_of(x) - exact) / ulp);
  }
  EXPECT_LT(worst, 1.5);
  EXPECT_EQ(exp2_of(0), 1);
  EXPECT_EQ(exp2_of(-127), 0);
  EXPECT_EQ(exp2_of(-1e30f), 0);
  EXPECT_EQ(exp2_of(-std::numeric_limits<float>::infinity()), 0);
  EXPECT_TRUE(std::isnan(exp2_of(NAN)));
}

INSTANTIATE_TEST_SUITE_P(, CpuElementwise, ::testing::ValuesIn(kernels_under_test()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace redline
