#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/rope.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/silu_mul.cuh"
#include "kernels/cuda/unpack_rows.cuh"
#include "tests/cuda/arrays.h"

namespace redline::cuda::test {
namespace {

template <class A>
class ElementwiseKernels : public testing::Test {};
using Activations = testing::Types<bf16, float>;
TYPED_TEST_SUITE(ElementwiseKernels, Activations);

TEST(UnpackRowsKernel, EmbedsTokensOfEveryType) {
  Random random(1);
  for (const DType dtype : kAllTypes)
    for (const int cols : {32, 96, 576, 768, 6, 33}) {
      if (cols % traits(dtype).block_elements != 0) continue;
      SCOPED_TRACE(testing::Message() << name(dtype) << ", cols " << cols);
      WeightsUnderTest table(dtype, 11, cols, random);
      const std::vector<std::int32_t> ids = {10, 0, 3, 3, 7};
      dev::Buffer<std::int32_t> device_ids(ids);
      dev::Buffer<float> out(ids.size() * static_cast<std::size_t>(cols));
      embed(out.get(), table.arrays(), device_ids.get(), 5, {});
      const std::vector<float> got = download(out);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double want =
            table.row(ids[i / static_cast<std::size_t>(cols)])[i % static_cast<std::size_t>(cols)];
        expect_close(got[i], want, 1e-6, 1e-6, static_cast<std::int64_t>(i));
      }
    }
}

TYPED_TEST(ElementwiseKernels, DequantizeARangeOfRows) {
  Random random(2);
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(name(dtype));
    const int cols = fitting_columns(dtype, 160);
    WeightsUnderTest weight(dtype, 9, cols, random);
    dev::Buffer<TypeParam> out(static_cast<std::size_t>(4 * cols));
    dequantize(out.get(), weight.arrays(), 3, 4, {});
    dequantize(out.get(), weight.arrays(), 9, 0, {});
    const std::vector<TypeParam> got = download(out);
    for (std::size_t i = 0; i < got.size(); ++i)
      expect_close(to_double(got[i]), weight.row(3)[i], 1e-6, rounding<TypeParam>(),
                   static_cast<std::int64_t>(i));
  }
}

TEST(WeightLayout, GivesBlocksBackBitForBit) {
  Random random(3);
  const int cols = 1024;
  for (const DType dtype : kAllTypes) {
    if (!is_quantized(dtype)) continue;
    SCOPED_TRACE(name(dtype));
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, cols)));
    for (std::byte& byte : row) byte = static_cast<std::byte>(random.below(256));
    const auto bytes = array_row_bytes(dtype, cols);
    std::vector<std::byte> arrays(row.size()), again(row.size());
    PerWeightArray<std::byte*> to{};
    PerWeightArray<const std::byte*> from{};
    std::byte* next = arrays.data();
    for (std::size_t a = 0; a < to.size(); next += bytes[a++])
      if (bytes[a] > 0) from[a] = to[a] = next;
    EXPECT_EQ(next, arrays.data() + arrays.size()) << "no byte more than the blocks hold";
    split_row(dtype, row.data(), cols, to);
    join_row(dtype, from, cols, again.data());
    EXPECT_EQ(again, row);
  }
}

template <class A>
void expect_norm(int rows, int cols, bool add, std::uint64_t seed, float scale) {
  SCOPED_TRACE(testing::Message() << rows << " rows of " << cols << ", add " << add << ", seed " << seed);
  Random random(seed);
  const float eps = 1e-5f;
  const std::int64_t count = std::int64_t{rows} * cols;
  std::vector<float> x = random.normals<float>(count, scale), weight = random.normals<float>(cols);
  const std::vector<A> delta = random.normals<A>(count, scale);
  dev::Buffer<float> device_x(x), device_weight(weight);
  dev::Buffer<A> device_delta(delta), out(static_cast<std::size_t>(count));
  if (add)
    add_rms_norm(out.get(), device_x.get(), device_delta.get(), device_weight.get(), rows, cols, eps, {});
  else
    rms_norm(out.get(), device_x.get(), device_weight.get(), rows, cols, eps, {});
  const std::vector<A> got = download(out);
  const std::vector<float> residual = download(device_x);
  for (std::int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::int64_t i = row * cols; i < (row + 1) * cols; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (add) x[at] += to_f32(delta[at]);
      EXPECT_EQ(residual[at], x[at]);
      sum += double{x[at]} * x[at];
    }
    const double rms = std::sqrt(sum / cols + eps);
    for (std::int64_t i = row * cols; i < (row + 1) * cols; ++i)
      expect_close(to_double(got[static_cast<std::size_t>(i)]),
                   x[static_cast<std::size_t>(i)] / rms * weight[static_cast<std::size_t>(i - row * cols)],
                   1e-7, rounding<A>() + 2e-6, i);
  }
}

TYPED_TEST(ElementwiseKernels, NormaliseRowsOfAnyLength) {
  std::uint64_t seed = 10;
  for (const int cols : {2, 6, 8, 72, 576, 1032, 2046, 2048, 2056, 4096, 4104, 8192, 8200, 16384, 16386})
    for (const bool add : {false, true}) expect_norm<TypeParam>(cols > 2000 ? 2 : 5, cols, add, ++seed, 1);
  expect_norm<TypeParam>(3, 64, true, ++seed, 1e-6f);  // eps decides
  expect_norm<TypeParam>(3, 64, true, ++seed, 1e6f);
  expect_norm<TypeParam>(0, 64, true, ++seed, 1);
}

TYPED_TEST(ElementwiseKernels, NormaliseInPlaceWhereTypesAllow) {
  if constexpr (std::is_same_v<TypeParam, float>) {
    Random random(30);
    for (const int cols : {64, 30}) {
      std::vector<float> x = random.normals<float>(2 * cols), weight(static_cast<std::size_t>(cols), 1.0f);
      dev::Buffer<float> in_place(x), from(x), apart(x.size()), device_weight(weight);
      rms_norm(in_place.get(), in_place.get(), device_weight.get(), 2, cols, 1e-5f, {});
      rms_norm(apart.get(), from.get(), device_weight.get(), 2, cols, 1e-5f, {});
      EXPECT_EQ(download(in_place), download(apart));
    }
  }
}

TYPED_TEST(ElementwiseKernels, MultiplyByTheSiluOfTheGate) {
  using A = TypeParam;
  Random random(40);
  for (const int cols : {1, 8, 33, 264, 1536})
    for (const bool joined : {false, true}) {
      SCOPED_TRACE(testing::Message() << "cols " << cols << ", joined " << joined);
      const int rows = 3, stride = joined ? 2 * cols : cols + 5;
      std::vector<A> gate = random.normals<A>(rows * stride + cols, 4), up = random.normals<A>(rows * stride);
      gate[0] = from_f32<A>(-300.0f);
      dev::Buffer<A> device_gate(gate), device_up(up), out(static_cast<std::size_t>(rows * (cols + 3)));
      silu_mul<A>({.out = out.get(),
                   .gate = device_gate.get(),
                   .up = joined ? device_gate.get() + cols : device_up.get(),
                   .out_stride = cols + 3,
                   .gate_stride = stride,
                   .up_stride = stride,
                   .rows = rows,
                   .cols = cols},
                  {});
      const std::vector<A> got = download(out);
      for (int i = 0; i < rows * (cols + 3); ++i) {
        const int row = i / (cols + 3), col = i % (cols + 3);
        const auto at = static_cast<std::size_t>(row * stride + col);
        if (col >= cols) {
          EXPECT_EQ(std::isnan(to_double(got[static_cast<std::size_t>(i)])), true) << "written past the row";
          continue;
        }
        const double g = to_double(gate[at]);
        const double u = to_double(joined ? gate[at + static_cast<std::size_t>(cols)] : up[at]);
        expect_close(to_double(got[static_cast<std::size_t>(i)]), g / (1 + std::exp(-g)) * u, 1e-30,
                     rounding<A>() + 4e-6, i);
      }
    }
}

struct RopeShape {
  int num_q_heads, num_kv_heads, head_dim, rotary_dim, block_size, num_tokens;
};

enum class Norm { kNone, kByHead, kJoined };

template <class A, class Cache>
void expect_rope(const RopeShape& shape, bool biased, Norm norm, std::uint64_t seed) {
  const auto [hq, hkv, d, rotary, block_size, num_tokens] = shape;
  SCOPED_TRACE(testing::Message() << hq << "/" << hkv << " heads of " << d << ", rotary " << rotary
                                  << ", block size " << block_size << ", biased " << biased << ", norm "
                                  << static_cast<int>(norm) << ", seed " << seed);
  Random random(seed);
  const int num_blocks = 4, num_positions = 50, half = rotary / 2, width = (hq + 2 * hkv) * d;
  const std::int64_t stride = width + (width % 8 == 0 ? 8 : 3);
  const std::vector<A> qkv = random.normals<A>(num_tokens * stride);
  const std::vector<float> cos = random.normals<float>(num_positions * half),
                           sin = random.normals<float>(num_positions * half),
                           bias = random.normals<float>(width), q_norm = random.normals<float>(hq * d),
                           k_norm = random.normals<float>(hkv * d);
  std::vector<std::int32_t> positions;
  std::vector<std::int64_t> slots;
  for (int t = 0; t < num_tokens; ++t) {
    positions.push_back(random.below(num_positions));
    slots.push_back((t * 7 + 3) % (num_blocks * block_size));  // distinct: 7 is coprime to the slots
  }
  const std::size_t cache_size = static_cast<std::size_t>(num_blocks * hkv * 2 * block_size * d);
  dev::Buffer<A> device_qkv(qkv);
  dev::Buffer<float> device_cos(cos), device_sin(sin), device_bias(bias), device_q_norm(q_norm),
      device_k_norm(k_norm);
  dev::Buffer<std::int32_t> device_positions(positions);
  dev::Buffer<std::int64_t> device_slots(slots);
  dev::Buffer<Cache> cache(std::vector<Cache>(cache_size, from_f32<Cache>(-77.0f)));
  rope_and_store_kv<Cache, A>({.qkv = device_qkv.get(),
                               .qkv_stride = stride,
                               .positions = device_positions.get(),
                               .slots = device_slots.get(),
                               .num_tokens = num_tokens,
                               .num_q_heads = hq,
                               .cos = device_cos.get(),
                               .sin = device_sin.get(),
                               .rotary_dim = rotary,
                               .bias = biased ? device_bias.get() : nullptr,
                               .q_norm = norm != Norm::kNone ? device_q_norm.get() : nullptr,
                               .k_norm = norm != Norm::kNone ? device_k_norm.get() : nullptr,
                               .norm_joins_heads = norm == Norm::kJoined,
                               .norm_eps = 1e-2f,
                               .kv = {.data = reinterpret_cast<std::byte*>(cache.get()),
                                      .num_blocks = num_blocks,
                                      .block_size = block_size,
                                      .num_kv_heads = hkv,
                                      .head_dim = d}},
                              {});
  // Biased and normed: [T, width].
  std::vector<double> heads(static_cast<std::size_t>(num_tokens * width));
  for (int t = 0; t < num_tokens; ++t) {
    double* const token = heads.data() + t * width;
    for (int i = 0; i < width; ++i)
      token[i] = to_double(qkv[static_cast<std::size_t>(t * stride + i)]) +
                 (biased ? bias[static_cast<std::size_t>(i)] : 0);
    for (int head = 0; norm != Norm::kNone && head < hq + hkv; ++head) {
      const bool joined = norm == Norm::kJoined, is_k = head >= hq;
      if (joined && head != 0 && head != hq) continue;
      const int count = !joined ? d : is_k ? hkv * d : hq * d;
      double sum = 0;
      for (int i = head * d; i < head * d + count; ++i) sum += token[i] * token[i];
      const double rms = std::sqrt(sum / count + 1e-2);
      for (int i = 0; i < count; ++i)
        token[head * d + i] *= (is_k ? k_norm : q_norm)[static_cast<std::size_t>(i)] / rms;
    }
  }
  const auto rotated = [&](int token, int head, int i) {
    const double* const x = heads.data() + token * width + head * d;
    if (i >= rotary) return x[i];
    const int pair = i % half, angle = positions[static_cast<std::size_t>(token)] * half + pair;
    const double c = cos[static_cast<std::size_t>(angle)], s = sin[static_cast<std::size_t>(angle)];
    return i < half ? x[pair] * c - x[pair + half] * s : x[pair + half] * c + x[pair] * s;
  };
  std::vector<double> want(cache_size, -77.0);
  const std::vector<A> got = download(device_qkv);
  for (int t = 0; t < num_tokens; ++t)
    for (std::int64_t i = 0; i < stride; ++i) {
      const auto at = static_cast<std::size_t>(t * stride + i);
      const int head = static_cast<int>(i / d), e = static_cast<int>(i % d);
      if (i >= width || head >= hq) {  // k and v stay as they are
        EXPECT_EQ(to_double(got[at]), to_double(qkv[at]));
      } else {
        expect_close(to_double(got[at]), rotated(t, head, e), 4e-6, rounding<A>() + 1e-6, i);
      }
      if (i >= width || head < hq) continue;
      const std::int64_t slot = slots[static_cast<std::size_t>(t)];
      const int kv = (head - hq) % hkv, is_v = (head - hq) / hkv;
      const std::int64_t tile = ((slot / block_size) * hkv + kv) * 2 + is_v;
      want[static_cast<std::size_t>((tile * block_size + slot % block_size) * d + e)] =
          is_v ? heads[static_cast<std::size_t>(t * width + i)] : rotated(t, head, e);
    }
  const std::vector<Cache> stored = download(cache);
  for (std::size_t i = 0; i < cache_size; ++i)
    expect_close(to_double(stored[i]), want[i], 4e-6, rounding<Cache>() + 1e-6, static_cast<std::int64_t>(i));
}

TYPED_TEST(ElementwiseKernels, TransformHeadsAndStoreKeysAndValues) {
  const RopeShape shapes[] = {{9, 3, 64, 64, 16, 5},    {4, 4, 32, 32, 2, 7},   {8, 1, 128, 64, 16, 3},
                              {2, 2, 80, 80, 16, 4},    {1, 1, 256, 256, 6, 2}, {3, 1, 20, 12, 4, 5},
                              {32, 8, 128, 128, 16, 1}, {2, 1, 96, 32, 16, 6},  {2, 1, 64, 0, 16, 3}};
  std::uint64_t seed = 50;
  for (const RopeShape& shape : shapes) {
    expect_rope<TypeParam, bf16>(shape, false, Norm::kNone, ++seed);
    expect_rope<TypeParam, float>(shape, false, Norm::kNone, ++seed);
    expect_rope<TypeParam, bf16>(shape, true, Norm::kNone, ++seed);
    expect_rope<TypeParam, bf16>(shape, false, Norm::kByHead, ++seed);
    expect_rope<TypeParam, float>(shape, true, Norm::kByHead, ++seed);
    expect_rope<TypeParam, bf16>(shape, true, Norm::kJoined, ++seed);
  }
}

TYPED_TEST(ElementwiseKernels, GatherRowsByIndex) {
  using A = TypeParam;
  Random random(80);
  for (const int cols : {8, 576, 7, 2}) {
    const int stride = cols + (cols % 8 == 0 ? 8 : 1);
    const std::vector<A> x = random.normals<A>(9 * stride);
    const std::vector<std::int32_t> rows = {0, 2, 8, 8};
    dev::Buffer<A> device_x(x), out(static_cast<std::size_t>(4 * cols));
    dev::Buffer<std::int32_t> device_rows(rows);
    gather_rows(out.get(), device_x.get(), stride, device_rows.get(), 4, cols, {});
    const std::vector<A> got = download(out);
    for (int i = 0; i < 4 * cols; ++i)
      EXPECT_EQ(
          to_double(got[static_cast<std::size_t>(i)]),
          to_double(
              x[static_cast<std::size_t>(rows[static_cast<std::size_t>(i / cols)] * stride + i % cols)]));
  }
}

TYPED_TEST(ElementwiseKernels, ConvertAnyCount) {
  Random random(90);
  for (const int count : {1, 7, 8, 9, 2048, 2050}) {
    const std::vector<float> x = random.normals<float>(count);
    dev::Buffer<float> device_x(x), back(x.size());
    dev::Buffer<TypeParam> out(x.size());
    convert(out.get(), device_x.get(), count, {});
    convert(back.get(), out.get(), count, {});
    const std::vector<TypeParam> got = download(out);
    const std::vector<float> widened = download(back);
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(to_double(got[i]), to_double(from_f32<TypeParam>(x[i])));
      EXPECT_EQ(widened[i], to_f32(got[i]));
    }
  }
}

TEST(CopyKvBlocksKernel, CopiesInOrderInEveryLayer) {
  Random random(100);
  const std::vector<BlockCopy> copies = {{0, 3}, {3, 1}, {2, 0}, {1, 2}};  // sources that were targets
  dev::Buffer<BlockCopy> device_copies(copies);
  for (const int block : {64, 4096, 5 * 1024, 6}) {  // elements of f32
    std::vector<std::vector<float>> want;
    std::vector<std::unique_ptr<dev::Buffer<float>>> layers;
    std::vector<std::byte*> data;
    for (int layer = 0; layer < 130; ++layer) {
      want.push_back(random.normals<float>(4 * block));
      layers.push_back(std::make_unique<dev::Buffer<float>>(want.back()));
      data.push_back(reinterpret_cast<std::byte*>(layers.back()->get()));
      for (const BlockCopy& copy : copies)
        std::copy_n(want.back().begin() + copy.source * block, block,
                    want.back().begin() + copy.target * block);
      if (block > 64 && layer == 2) break;
    }
    copy_kv_blocks(data, device_copies.get(), static_cast<int>(copies.size()), block * 4, {});
    for (std::size_t i = 0; i < layers.size(); ++i) EXPECT_EQ(download(*layers[i]), want[i]);
  }
}

}  // namespace
}  // namespace redline::cuda::test
