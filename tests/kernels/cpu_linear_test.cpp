// CpuOps' matrices on every instruction set (AVX-512 emulated where the machine has none), against double
// arithmetic over the very activations that the kernels multiply: quantised to int8 by 32 for quantised
// weights, f32 otherwise.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops.h"
#include "tests/kernels/kernels_under_test.h"
#include "tests/kernels/random_blocks.h"

namespace redline {
namespace {

struct Matrix {
  DType dtype{};
  std::int64_t rows = 0, cols = 0;
  std::vector<std::byte> bytes;
  MatrixSource source() const {
    return {dtype, rows, cols,
            [this](std::int64_t row) { return bytes.data() + row * row_bytes(dtype, cols); }};
  }
  std::vector<float> row(std::int64_t i) const {
    std::vector<float> out(static_cast<std::size_t>(cols));
    dequantize_row(dtype, bytes.data() + i * row_bytes(dtype, cols), cols, out.data());
    return out;
  }
};

Matrix random_matrix(DType dtype, std::int64_t rows, std::int64_t cols, std::mt19937& random) {
  Matrix m{dtype, rows, cols, {}};
  m.bytes.resize(static_cast<std::size_t>(rows * row_bytes(dtype, cols)));
  const int elements = traits(dtype).block_elements, bytes = traits(dtype).block_bytes;
  for (std::int64_t i = 0; i < rows * cols / elements; ++i)
    fill_random_block(dtype, m.bytes.data() + i * bytes, random);
  return m;
}

std::vector<float> random_rows(std::int64_t m, std::int64_t k, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(m * k));
  for (float& v : x) v = normal(random) * (random() % 64 == 0 ? 8.0f : 1.0f);
  if (m > 1)  // a row of zeros has no scale
    for (std::int64_t i = 0; i < k; ++i) x[static_cast<std::size_t>(i)] = 0;
  return x;
}

// What the kernels multiply in place of x: f32, or int8 times a scale for each 32.
std::vector<double> as_multiplied(const float* x, std::int64_t k, ComputeType compute) {
  std::vector<double> out(x, x + k);
  if (compute == ComputeType::kBF16)
    for (double& v : out) v = bf16_to_f32(f32_to_bf16(static_cast<float>(v)));
  if (compute != ComputeType::kInt8 && compute != ComputeType::kInt16) return out;
  for (std::int64_t b = 0; b < k; b += 32) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[b + i]));
    const float scale = largest / 127.0f, inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    for (int i = 0; i < 32; ++i)
      out[static_cast<std::size_t>(b + i)] = static_cast<double>(scale) * std::nearbyint(x[b + i] * inverse);
  }
  return out;
}

// A step of m tokens of one sequence, so that operations can be called.
class Step {
 public:
  Step(Ops& ops, std::int64_t m)
      : ids_(static_cast<std::size_t>(m)), positions_(ids_), slots_(ids_.size()), work_{} {
    work_.num_new = static_cast<std::int32_t>(m);
    BatchView batch;
    batch.sequences = {&work_, 1};
    batch.token_ids = ids_;
    batch.positions = positions_;
    batch.slots = slots_;
    ops.begin_step(batch);
  }

 private:
  std::vector<std::int32_t> ids_, positions_;
  std::vector<std::int64_t> slots_;
  SequenceWork work_;
};

std::vector<float> run_linear(Ops& ops, const WeightView& weight, const std::vector<float>& x,
                              std::int64_t m) {
  const std::int64_t n = weight.gate_up ? weight.rows / 2 : weight.rows, stride = n + 5;
  std::vector<float> out(static_cast<std::size_t>(m * stride), -77.0f);
  const Step step(ops, m);
  const TensorView to{out.data(), DType::kF32, m, n, stride};
  const TensorView from = f32_view(const_cast<float*>(x.data()), m, weight.cols);
  if (weight.gate_up)
    ops.linear_silu_mul(to, from, weight);
  else
    ops.linear(to, from, weight, Part::kFfn);
  std::vector<float> dense;
  for (std::int64_t t = 0; t < m; ++t)
    for (std::int64_t i = 0; i < stride; ++i) {
      const float value = out[static_cast<std::size_t>(t * stride + i)];
      if (i < n)
        dense.push_back(value);
      else
        EXPECT_EQ(value, -77.0f) << "written beyond the row";
    }
  return dense;
}

struct Sum {
  double value = 0, magnitude = 0;
};
Sum dot(const std::vector<float>& w, const std::vector<double>& x) {
  Sum s;
  for (std::size_t i = 0; i < w.size(); ++i) {
    s.value += static_cast<double>(w[i]) * x[i];
    s.magnitude += std::abs(static_cast<double>(w[i]) * x[i]);
  }
  return s;
}

class CpuLinear : public ::testing::TestWithParam<cpu::KernelTable> {
 protected:
  static std::unique_ptr<Ops> ops_of(int threads) { return std::make_unique<CpuOps>(GetParam(), threads); }
};

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (int i = 0; i < kNumDTypes; ++i) types.push_back(static_cast<DType>(i));
  return types;
}
// Near `about` columns, and a whole number of blocks.
std::int64_t whole_blocks(DType dtype, std::int64_t about) {
  const int elements = traits(dtype).block_elements;
  return (about + elements - 1) / elements * elements;
}
// Relative to the sum of magnitudes: a chain of at most 700 f32 roundings.
constexpr double kTolerance = 4e-6;

TEST_P(CpuLinear, MatchesDoubleArithmeticOnRaggedShapes) {
  std::mt19937 random(20240611);
  const auto ops = ops_of(2);
  for (DType dtype : all_types())
    for (std::int64_t n : {1, 15, 16, 33, 100})
      for (std::int64_t about : {1, 78, 569})
        for (std::int64_t m : {1, 2, 3, 4, 5, 7, 13, 40}) {
          const std::int64_t k = whole_blocks(dtype, about);
          const Matrix w = random_matrix(dtype, n, k, random);
          const auto x = random_rows(m, k, random);
          const PackedMatrix packed = ops->pack(w.source());
          const auto out = run_linear(*ops, packed.view, x, m);
          const ComputeType compute = ops->compute_type(OpKind::kLinear, dtype);
          std::vector<std::vector<float>> rows;
          for (std::int64_t i = 0; i < n; ++i) rows.push_back(w.row(i));
          for (std::int64_t t = 0; t < m; ++t) {
            const auto xt = as_multiplied(x.data() + t * k, k, compute);
            for (std::int64_t i = 0; i < n; ++i) {
              const Sum expected = dot(rows[static_cast<std::size_t>(i)], xt);
              ASSERT_NEAR(out[static_cast<std::size_t>(t * n + i)], expected.value,
                          kTolerance * expected.magnitude + 1e-30)
                  << name(dtype) << " n " << n << " k " << k << " m " << m << " row " << i << " token " << t;
            }
          }
        }
}

TEST_P(CpuLinear, GateAndUpFuseIntoSiluTimesUp) {
  std::mt19937 random(7);
  const auto ops = ops_of(2);
  for (DType dtype : all_types())
    for (std::int64_t f : {1, 7, 8, 50})
      for (std::int64_t m : {1, 3, 9}) {
        const std::int64_t k = whole_blocks(dtype, 96);
        const Matrix gate = random_matrix(dtype, f, k, random), up = random_matrix(dtype, f, k, random);
        const auto x = random_rows(m, k, random);
        const PackedMatrix packed = ops->pack_gate_up(gate.source(), up.source());
        const auto out = run_linear(*ops, packed.view, x, m);
        const ComputeType compute = ops->compute_type(OpKind::kLinearSiluMul, dtype);
        for (std::int64_t t = 0; t < m; ++t) {
          const auto xt = as_multiplied(x.data() + t * k, k, compute);
          for (std::int64_t i = 0; i < f; ++i) {
            const Sum g = dot(gate.row(i), xt), u = dot(up.row(i), xt);
            const double silu = g.value / (1 + std::exp(-g.value));
            // d silu / dx lies within [-0.1, 1.1]; the vector exp is good to a few ulp.
            const double slack = kTolerance * (1.1 * g.magnitude * std::abs(u.value) +
                                               std::abs(silu) * u.magnitude + std::abs(silu * u.value)) +
                                 1e-30;
            ASSERT_NEAR(out[static_cast<std::size_t>(t * f + i)], silu * u.value, slack)
                << name(dtype) << " f " << f << " m " << m << " column " << i << " token " << t;
          }
        }
      }
}

TEST_P(CpuLinear, ResultsDoNotDependOnBatchOrThreads) {
  std::mt19937 random(99);
  for (DType dtype : all_types())
    for (const bool gated : {false, true}) {
      const std::int64_t n = 38, k = whole_blocks(dtype, 1248), m = 211;
      const Matrix w = random_matrix(dtype, n, k, random), up = random_matrix(dtype, n, k, random);
      const auto x = random_rows(m, k, random);
      std::vector<float> first;
      for (int threads : {1, 3}) {
        const auto ops = ops_of(threads);
        const PackedMatrix packed =
            gated ? ops->pack_gate_up(w.source(), up.source()) : ops->pack(w.source());
        const auto all = run_linear(*ops, packed.view, x, m);
        if (first.empty()) first = all;
        ASSERT_EQ(0, std::memcmp(first.data(), all.data(), all.size() * sizeof(float))) << name(dtype);
        for (std::int64_t start = 0, count = 1; start < m; start += count, count = count % 14 + 1) {
          count = std::min(count, m - start);
          const std::vector<float> part(x.begin() + start * k, x.begin() + (start + count) * k);
          const auto out = run_linear(*ops, packed.view, part, count);
          ASSERT_EQ(0, std::memcmp(first.data() + start * n, out.data(), out.size() * sizeof(float)))
              << name(dtype) << (gated ? " gated" : "") << ", rows " << start << " + " << count;
        }
      }
    }
}

TEST_P(CpuLinear, PackedRowsUnpackExactly) {
  std::mt19937 random(5);
  const auto ops = ops_of(2);
  for (DType dtype : all_types())
    for (std::int64_t n : {1, 16, 45}) {
      const std::int64_t k = whole_blocks(dtype, 149);
      const Matrix a = random_matrix(dtype, n, k, random), b = random_matrix(dtype, n, k, random);
      const PackedMatrix plain = ops->pack(a.source()), gated = ops->pack_gate_up(a.source(), b.source());
      EXPECT_EQ(plain.view.stored_bytes, ops->packed_bytes(dtype, n, k));
      EXPECT_EQ(plain.view.type_bytes, n * row_bytes(dtype, k));
      std::vector<float> row(static_cast<std::size_t>(k));
      for (std::int64_t i = 0; i < n; ++i) {
        ops->unpack_row(plain.view, i, row.data());
        EXPECT_EQ(row, a.row(i)) << name(dtype) << " row " << i << " of " << n;
        ops->unpack_row(gated.view, i, row.data());
        EXPECT_EQ(row, a.row(i)) << name(dtype) << " gate row " << i;
        ops->unpack_row(gated.view, n + i, row.data());
        EXPECT_EQ(row, b.row(i)) << name(dtype) << " up row " << i;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuLinear, ::testing::ValuesIn(kernels_under_test()),
                         [](const auto& test) { return name_of(test.param); });

TEST(CpuOps, AnUnknownInstructionSetIsRefusedByName) {
  try {
    make_cpu_ops({1, "avx1024"});
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("avx1024"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("portable"), std::string::npos);
  }
}

}  // namespace
}  // namespace redline
