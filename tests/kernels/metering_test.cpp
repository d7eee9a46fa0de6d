// The ledger against the multiply-adds that the reference implementation really executes.
#include <gtest/gtest.h>

#include <array>
#include <compare>
#include <string>

#include "kernels/reference/reference_ops.h"
#include "tests/kernels/ragged_batch.h"

namespace redline {
namespace {

/// A double that counts the fused multiply-adds executed on it.
struct CountingScalar {
  double value = 0;
  static inline std::int64_t multiply_adds = 0;

  explicit CountingScalar(double x) : value(x) {}
  explicit operator float() const { return static_cast<float>(value); }
  friend CountingScalar operator+(CountingScalar a, CountingScalar b) {
    return CountingScalar(a.value + b.value);
  }
  friend CountingScalar operator-(CountingScalar a, CountingScalar b) {
    return CountingScalar(a.value - b.value);
  }
  friend CountingScalar operator*(CountingScalar a, CountingScalar b) {
    return CountingScalar(a.value * b.value);
  }
  friend CountingScalar operator/(CountingScalar a, CountingScalar b) {
    return CountingScalar(a.value / b.value);
  }
  friend bool operator<(CountingScalar a, CountingScalar b) { return a.value < b.value; }
  friend CountingScalar exp(CountingScalar x) { return CountingScalar(std::exp(x.value)); }
  friend CountingScalar sqrt(CountingScalar x) { return CountingScalar(std::sqrt(x.value)); }
  friend CountingScalar fma(CountingScalar a, CountingScalar b, CountingScalar c) {
    ++multiply_adds;
    return CountingScalar(std::fma(a.value, b.value, c.value));
  }
};

struct Geometry {
  int num_layers, hidden, num_q_heads, num_kv_heads, head_dim, ffn, vocabulary, block_size;
  DType cache, weights;
  int window = 0;  // of every second layer
};

using FlopsByPart = std::array<std::int64_t, kNumParts>;

// A decoder-only transformer with every operation on it, and what each of its parts executed.
class CountedModel {
 public:
  CountedModel(const Geometry& geometry, std::mt19937& random) : g_(geometry) {
    const int d = g_.head_dim;
    qkv_ = matrix((g_.num_q_heads + 2 * g_.num_kv_heads) * d, g_.hidden, random);
    attention_out_ = matrix(g_.hidden, g_.num_q_heads * d, random);
    gate_up_ = gate_up(g_.ffn, g_.hidden, random);
    down_ = matrix(g_.hidden, g_.ffn, random);
    head_ = matrix(g_.vocabulary, g_.hidden, random);
    norm_ = random_floats(static_cast<std::size_t>(g_.hidden), random);
    angles_ = random_floats(static_cast<std::size_t>(kMaxPositions * d / 2), random);
  }

  /// Runs one step; returns 2 FLOPs per multiply-add that it executed, by part.
  FlopsByPart run(const RaggedBatch& ragged) {
    const BatchView batch = ragged.view();
    const std::int64_t tokens = batch.num_tokens(), d = g_.head_dim;
    const std::int64_t q_cols = g_.num_q_heads * d, qkv_cols = q_cols + 2 * g_.num_kv_heads * d;
    const RopeView rope{angles_.data(), angles_.data(), kMaxPositions, g_.head_dim};
    KvLayerView kv{nullptr, g_.cache, ragged.num_blocks(), g_.block_size, g_.num_kv_heads, g_.head_dim};
    const Buffer cache(static_cast<std::size_t>(kv.num_blocks * kv.block_bytes()));
    kv.data = cache.data();
    const auto tensor = [&](std::vector<float>& storage, std::int64_t rows, std::int64_t cols) {
      storage.assign(static_cast<std::size_t>(rows * cols), 0);
      return f32_view(storage.data(), rows, cols);
    };
    std::vector<float> storage[8];
    const TensorView x = tensor(storage[0], tokens, g_.hidden),
                     normed = tensor(storage[1], tokens, g_.hidden);
    const TensorView qkv = tensor(storage[2], tokens, qkv_cols), mixed = tensor(storage[3], tokens, q_cols);
    const TensorView delta = tensor(storage[4], tokens, g_.hidden), wide = tensor(storage[5], tokens, g_.ffn);
    const TensorView last = tensor(storage[6], batch.num_logit_rows(), g_.hidden);
    const TensorView logits = tensor(storage[7], batch.num_logit_rows(), g_.vocabulary);

    FlopsByPart executed{};
    const auto count = [&](Part part, auto&& operation) {
      const std::int64_t before = CountingScalar::multiply_adds;
      operation();
      executed[static_cast<std::size_t>(part)] += 2 * (CountingScalar::multiply_adds - before);
    };
    ops.begin_step(batch);
    count(Part::kOther, [&] { ops.embed(x, head_.view); });
    for (int layer = 0; layer < g_.num_layers; ++layer) {
      count(Part::kOther, [&] { ops.rms_norm(normed, x, norm_.data(), 1e-5f); });
      count(Part::kProjections, [&] { ops.linear(qkv, normed, qkv_.view, Part::kProjections); });
      count(Part::kOther, [&] { ops.rope_and_store_kv(qkv, g_.num_q_heads, {rope}, kv); });
      count(Part::kAttention, [&] {
        ops.paged_attention(mixed, qkv, g_.num_q_heads, kv, 0.125f, layer % 2 == 0 ? g_.window : 0);
      });
      count(Part::kProjections, [&] { ops.linear(delta, mixed, attention_out_.view, Part::kProjections); });
      count(Part::kOther, [&] { ops.add_rms_norm(normed, x, delta, norm_.data(), 1e-5f); });
      count(Part::kFfn, [&] { ops.linear_silu_mul(wide, normed, gate_up_.view); });
      count(Part::kFfn, [&] { ops.linear(delta, wide, down_.view, Part::kFfn); });
    }
    count(Part::kOther, [&] { ops.gather_rows(last, x); });
    count(Part::kHead, [&] { ops.linear(logits, last, head_.view, Part::kHead, RowBasis::kLogits); });
    return executed;
  }

  BasicReferenceOps<CountingScalar> ops;

 private:
  static constexpr int kMaxPositions = 256;

  MatrixSource source(std::int64_t rows, std::int64_t cols, std::vector<std::byte>& bytes,
                      std::mt19937& random) const {
    bytes.resize(static_cast<std::size_t>(rows * row_bytes(g_.weights, cols)));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0x3f);  // finite in every type
    return {g_.weights, rows, cols,
            [this, cols, &bytes](std::int64_t i) { return bytes.data() + i * row_bytes(g_.weights, cols); }};
  }
  PackedMatrix matrix(std::int64_t rows, std::int64_t cols, std::mt19937& random) {
    std::vector<std::byte> bytes;
    return ops.pack(source(rows, cols, bytes, random));
  }
  PackedMatrix gate_up(std::int64_t rows, std::int64_t cols, std::mt19937& random) {
    std::vector<std::byte> gate, up;
    return ops.pack_gate_up(source(rows, cols, gate, random), source(rows, cols, up, random));
  }

  Geometry g_;
  PackedMatrix qkv_, attention_out_, gate_up_, down_, head_;
  std::vector<float> norm_, angles_;
};

std::vector<RaggedSequence> random_sequences(std::mt19937& random) {
  const auto pick = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  };
  std::vector<RaggedSequence> sequences(static_cast<std::size_t>(pick(1, 5)));
  for (RaggedSequence& s : sequences) {
    s.num_cached = pick(0, 2) ? pick(0, 60) : 0;
    if (pick(0, 1)) {
      s.phase = Phase::kDecode;
      continue;
    }
    s.num_new = pick(1, 40);
    s.num_recomputed = pick(0, 2) ? 0 : pick(0, s.num_new);
    s.num_logit_rows = std::min(pick(0, 3), s.num_new - s.num_recomputed);
  }
  return sequences;
}

// The same step had the lost tokens still been in the cache: what of it is useful.
std::vector<RaggedSequence> without_recomputation(std::vector<RaggedSequence> sequences) {
  std::erase_if(sequences, [](const RaggedSequence& s) { return s.num_recomputed == s.num_new; });
  for (RaggedSequence& s : sequences) {
    s.num_cached += s.num_recomputed;
    s.num_new -= s.num_recomputed;
    s.num_recomputed = 0;
  }
  return sequences;
}

TEST(Metering, LedgerEqualsTheMultiplyAddsThatRan) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const Geometry geometries[] = {{2, 32, 4, 4, 8, 64, 40, 16, DType::kF32, DType::kF32},
                                 {2, 32, 9, 3, 32, 96, 37, 16, DType::kBF16, DType::kQ8_0},
                                 {1, 64, 7, 1, 32, 32, 50, 32, DType::kBF16, DType::kBF16},
                                 {3, 32, 8, 2, 6, 64, 33, 16, DType::kF32, DType::kF16},
                                 {1, 96, 6, 2, 16, 32, 33, 64, DType::kBF16, DType::kQ4_1},
                                 {1, 32, 14, 2, 64, 32, 33, 16, DType::kF32, DType::kQ4_0},
                                 {1, 32, 4, 2, 8, 32, 33, 16, DType::kF32, DType::kQ8_0, 1},
                                 {3, 32, 12, 4, 8, 32, 33, 16, DType::kBF16, DType::kQ8_0, 13},
                                 {2, 32, 7, 1, 8, 32, 33, 32, DType::kF32, DType::kBF16, 37}};
  bool any_wasted = false;
  for (const Geometry& geometry : geometries) {
    CountedModel model(geometry, random);
    for (int trial = 0; trial < 8; ++trial) {
      const std::vector<RaggedSequence> sequences = random_sequences(random);
      const RaggedBatch batch(sequences, geometry.block_size, geometry.vocabulary, random);
      const FlopsByPart executed = model.run(batch);
      Counts step;
      for (const Counts& c : model.ops.ledger().end_step().phase) step += c;

      const RaggedBatch useful_batch(without_recomputation(sequences), geometry.block_size,
                                     geometry.vocabulary, random);
      const FlopsByPart useful = model.run(useful_batch);
      std::int64_t all_executed = 0;
      for (Part part : {Part::kProjections, Part::kAttention, Part::kFfn, Part::kHead}) {
        const auto p = static_cast<std::size_t>(part);
        EXPECT_EQ(step.flops[p], useful[p]) << kPartNames[p];
        EXPECT_EQ(step.flops[p] + step.wasted_flops[p], executed[p]) << kPartNames[p];
        all_executed += executed[p];
        any_wasted |= step.wasted_flops[p] > 0;
      }
      EXPECT_EQ(step.executed_flops(), all_executed);
      EXPECT_EQ(executed[static_cast<std::size_t>(Part::kOther)], 0);
      EXPECT_EQ(step.flops_by_type[static_cast<std::size_t>(ComputeType::kF64)], step.useful_flops());
    }
  }
  EXPECT_TRUE(any_wasted);
}

}  // namespace
}  // namespace redline
