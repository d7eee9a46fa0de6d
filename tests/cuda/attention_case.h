// A step of paged attention for tests: inputs on the host with everything that must not be read poisoned, a
// run on the device, and the answer in double precision with the error that the arithmetic allows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/attention.cuh"

namespace redline::cuda {

struct AttentionSequence {
  int num_cached = 0;
  int num_new = 1;
};

/// What to compute.
struct AttentionCase {
  std::vector<AttentionSequence> sequences;
  AttentionShape shape;
  int block_size = 16;
  unsigned seed = 1;
  int window = kNoWindow;
};

/// Values as stored on the device in bf16 or f32, and as the numbers that they are.
struct StoredValues {
  DType type;
  std::vector<std::byte> bytes;

  StoredValues(DType t, std::size_t count)
      : type(t), bytes(count * (t == DType::kBF16 ? 2 : 4), std::byte{0xff}) {}
  std::size_t size() const { return bytes.size() / (type == DType::kBF16 ? 2 : 4); }
  void set(std::size_t i, float value) {
    if (type == DType::kBF16) {
      const dev::bf16 rounded = __float2bfloat16(value);
      std::memcpy(&bytes[i * 2], &rounded, 2);
    } else {
      std::memcpy(&bytes[i * 4], &value, 4);
    }
  }
  double get(std::size_t i) const {
    if (type == DType::kBF16) {
      dev::bf16 value;
      std::memcpy(&value, &bytes[i * 2], 2);
      return static_cast<double>(__bfloat162float(value));
    }
    float value = 0;
    std::memcpy(&value, &bytes[i * 4], 4);
    return static_cast<double>(value);
  }
};

/// The step's arrays on the host. Spare blocks, slots beyond a sequence's end, qkv's K and V columns and the
/// padding of rows hold NaN; table entries that no token needs point nowhere, those of blocks before every
/// window alternately there and to a block of NaN.
class AttentionStep {
 public:
  explicit AttentionStep(const AttentionCase& c)
      : case_(c),
        q_stride_((c.shape.num_q_heads + 2 * c.shape.num_kv_heads) * round_up(c.shape.head_dim)),
        out_stride_(round_up(c.shape.num_q_heads * c.shape.head_dim) + 8),
        q_(c.shape.activation_type, 0),
        cache_(c.shape.cache_type, 0) {
    std::mt19937 random(c.seed);
    lay_out_sequences(random);
    std::normal_distribution<float> normal(0, 1);
    const auto rows = static_cast<std::size_t>(num_tokens());
    q_ = StoredValues(c.shape.activation_type, rows * static_cast<std::size_t>(q_stride_));
    for (std::size_t row = 0; row < rows; ++row)
      for (int i = 0; i < c.shape.num_q_heads * c.shape.head_dim; ++i)
        q_.set(row * static_cast<std::size_t>(q_stride_) + static_cast<std::size_t>(i), normal(random));
    cache_ = StoredValues(c.shape.cache_type, static_cast<std::size_t>(num_blocks_) * 2 *
                                                  static_cast<std::size_t>(c.shape.num_kv_heads *
                                                                           c.block_size * c.shape.head_dim));
    for (const SequenceWork& s : work_)
      for (int token = first_block(s) * c.block_size; token < s.num_cached + s.num_new; ++token)
        for (int head = 0; head < c.shape.num_kv_heads; ++head)
          for (int value = 0; value < 2; ++value)
            for (int e = 0; e < c.shape.head_dim; ++e)
              cache_.set(cache_index(s, token, head, value) + static_cast<std::size_t>(e), normal(random));
  }

  int num_tokens() const { return static_cast<int>(row_sequence_.size()); }
  std::span<const SequenceWork> work() const { return work_; }
  std::int64_t out_stride() const { return out_stride_; }

  /// What the host counts of the step.
  AttentionCounts counts() const { return count_attention_work(work_, case_.shape); }

  /// Runs the step; the attention itself `repeats` times on one plan. Returns out [T, out_stride].
  StoredValues run(int repeats = 1) const { return run(repeats, counts()); }
  StoredValues run(int repeats, const AttentionCounts& counts) const {
    const AttentionShape& shape = case_.shape;
    dev::Buffer<SequenceWork> work(work_, "sequences");
    dev::Buffer<std::int32_t> row_sequence(row_sequence_, "row_sequence"), tables(tables_, "block_tables");
    dev::Buffer<std::byte> q(q_.bytes, "q"), cache(cache_.bytes, "cache");
    StoredValues out(shape.activation_type, static_cast<std::size_t>(num_tokens() * out_stride_));
    dev::Buffer<std::byte> device_out(out.bytes, "out");
    const int num_sequences = static_cast<int>(work_.size());
    dev::Buffer<std::byte> workspace(attention_workspace_bytes(shape, num_tokens(), num_sequences), 0xff,
                                     "attention workspace");
    AttentionArgs args;
    args.shape = shape;
    args.batch.sequences = work.get();
    args.batch.row_sequence = row_sequence.get();
    args.batch.block_tables = tables.get();
    args.batch.num_sequences = num_sequences;
    args.batch.num_tokens = num_tokens();
    args.kv = {cache.get(), num_blocks_, case_.block_size, shape.num_kv_heads, shape.head_dim};
    args.plan = attention_plan(workspace.get(), shape, num_tokens(), num_sequences);
    args.counts = counts;
    args.q = q.get();
    args.out = device_out.get();
    args.q_stride = q_stride_;
    args.out_stride = out_stride_;
    args.scale = scale();
    args.window = case_.window;
    launch_attention_plan(args, nullptr);
    for (int i = 0; i < repeats; ++i) {
      dev::poison(device_out.get(), 0xff, device_out.size());
      launch_paged_attention(args, nullptr);
    }
    dev::sync();
    out.bytes = device_out.download();
    return out;
  }

  /// One row and head in double precision.
  struct Answer {
    std::vector<double> value;      // [head_dim]
    std::vector<double> magnitude;  // [head_dim] sum of weight * |v|
    double score_magnitude = 0;     // largest scale * sum |q k|
  };
  Answer answer(const SequenceWork& s, int row, int head) const {
    const AttentionShape& shape = case_.shape;
    const auto d = static_cast<std::size_t>(shape.head_dim);
    const int kv_head = head / (shape.num_q_heads / shape.num_kv_heads);
    const std::size_t q =
        static_cast<std::size_t>(s.query_start + row) * static_cast<std::size_t>(q_stride_) +
        static_cast<std::size_t>(head) * d;
    Answer answer{std::vector<double>(d), std::vector<double>(d), 0};
    const int begin = std::max(0, s.num_cached + row + 1 - case_.window);
    std::vector<double> weights(static_cast<std::size_t>(s.num_cached + row + 1 - begin));
    double maximum = -std::numeric_limits<double>::infinity(), total = 0;
    for (std::size_t token = 0; token < weights.size(); ++token) {
      const std::size_t k = cache_index(s, begin + static_cast<int>(token), kv_head, 0);
      double score = 0, magnitude = 0;
      for (std::size_t e = 0; e < d; ++e) {
        const double product = q_.get(q + e) * cache_.get(k + e) * static_cast<double>(scale());
        score += product;
        magnitude += std::abs(product);
      }
      weights[token] = score;
      maximum = std::max(maximum, score);
      answer.score_magnitude = std::max(answer.score_magnitude, magnitude);
    }
    for (double& w : weights) total += w = std::exp(w - maximum);
    for (std::size_t token = 0; token < weights.size(); ++token) {
      const std::size_t v = cache_index(s, begin + static_cast<int>(token), kv_head, 1);
      for (std::size_t e = 0; e < d; ++e) {
        answer.value[e] += weights[token] / total * cache_.get(v + e);
        answer.magnitude[e] += weights[token] / total * std::abs(cache_.get(v + e));
      }
    }
    return answer;
  }

  /// What arithmetic may add to `answer` in column `e`. fp32: each of the d products and sums of a score errs
  /// by 2^-22 of its magnitude at most (tensor cores truncate), exp2 and the sums over n tokens by n + 8
  /// such. kMma rounds weights to bf16 before they meet V; a bf16 result is rounded once: half a unit, 2^-9,
  /// each.
  double tolerance(const Answer& a, std::size_t e, int num_keys) const {
    const double fp32 = std::ldexp(1.0, -22), half_unit = std::ldexp(1.0, -8);
    const double score_error = fp32 * (case_.shape.head_dim + 2) * a.score_magnitude;
    double weight_error = 2 * score_error + fp32 * (num_keys + 8);
    if (case_.shape.rung != AttentionRung::kPlain) weight_error += half_unit;
    const double rounding = case_.shape.activation_type == DType::kBF16 ? half_unit : fp32;
    return weight_error * a.magnitude[e] * (1 + rounding) + rounding * std::abs(a.value[e]);
  }

 private:
  static constexpr std::int32_t kNowhere = 1 << 24, kTrash = kNowhere + 1;

  /// The first block of a sequence that some window reaches.
  int first_block(const SequenceWork& s) const {
    return std::max(0, s.num_cached + 1 - case_.window) / case_.block_size;
  }
  static int round_up(int n) { return (n + 7) / 8 * 8; }
  float scale() const { return 1.f / std::sqrt(static_cast<float>(case_.shape.head_dim)); }

  void lay_out_sequences(std::mt19937& random) {
    std::int32_t num_needed = 0;
    for (const AttentionSequence& sequence : case_.sequences) {
      SequenceWork work;
      work.query_start = num_tokens();
      work.num_new = sequence.num_new;
      work.num_cached = sequence.num_cached;
      work.table_start = static_cast<std::int32_t>(tables_.size());
      const int blocks = (sequence.num_cached + sequence.num_new + case_.block_size - 1) / case_.block_size;
      for (int i = 0; i < blocks; ++i)
        tables_.push_back(i >= first_block(work) ? num_needed++ : i % 2 == 0 ? kNowhere : kTrash);
      for (int i = 0; i < 3; ++i) tables_.push_back(kNowhere);
      row_sequence_.insert(row_sequence_.end(), static_cast<std::size_t>(sequence.num_new),
                           static_cast<std::int32_t>(work_.size()));
      work_.push_back(work);
    }
    num_blocks_ = num_needed + 3;
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(num_blocks_));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (std::int32_t& entry : tables_)
      if (entry == kTrash)
        entry = blocks[static_cast<std::size_t>(num_needed)];  // spare
      else if (entry < num_needed)
        entry = blocks[static_cast<std::size_t>(entry)];
  }

  std::size_t cache_index(const SequenceWork& s, int token, int head, int value) const {
    const std::int64_t block = tables_[static_cast<std::size_t>(s.table_start + token / case_.block_size)];
    return static_cast<std::size_t>(
        (((block * case_.shape.num_kv_heads + head) * 2 + value) * case_.block_size +
         token % case_.block_size) *
        case_.shape.head_dim);
  }

  AttentionCase case_;
  std::int64_t q_stride_, out_stride_;
  std::vector<SequenceWork> work_;
  std::vector<std::int32_t> row_sequence_, tables_;
  std::int32_t num_blocks_ = 0;
  StoredValues q_, cache_;
};

}  // namespace redline::cuda
