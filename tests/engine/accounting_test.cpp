// Whole models: what the ledger counted while they ran equals the closed forms, to the last FLOP and byte.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "engine/batch.h"
#include "engine/meter/estimate.h"
#include "engine/model.h"
#include "kvcache/kv_cache.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

struct Variant {
  const char* name;
  std::int64_t q_heads, kv_heads;
  bool tied;
  DType dtype, embedding, kv;
  bool on_cpu;
  bool qkv_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  NormPlacement norm_placement = NormPlacement::kBeforeBlock;
  std::vector<LayerConfig> layers = {};
};

class RandomModel {
 public:
  explicit RandomModel(const Variant& v)
      : ops_(v.on_cpu ? make_cpu_ops({.threads = 2, .isa = {}}) : make_reference_ops()) {
    config_.num_layers = 3;
    config_.hidden_size = 64;
    config_.num_q_heads = v.q_heads;
    config_.num_kv_heads = v.kv_heads;
    config_.head_dim = config_.rotary_dim = 32;
    config_.ffn_size = 96;
    config_.vocab_size = 101;
    config_.max_positions = 256;
    config_.tied_embeddings = v.tied;
    config_.qkv_bias = v.qkv_bias;
    config_.qk_norm = v.qk_norm;
    config_.norm_placement = v.norm_placement;
    config_.layers = v.layers;
    config_.embedding_multiplier = 3;
    config_.residual_multiplier = 0.5;
    const ModelConfig& c = config_;
    weights_.embedding = matrix(v.embedding, c.vocab_size, c.hidden_size);
    if (!v.tied) weights_.head = matrix(v.dtype, c.vocab_size, c.hidden_size);
    weights_.final_norm = ones(c.hidden_size);
    for (std::int64_t l = 0; l < c.num_layers; ++l) {
      LayerWeights layer;
      layer.attn_norm = ones(c.hidden_size);
      layer.ffn_norm = ones(c.hidden_size);
      layer.qkv.push_back(matrix(v.dtype, c.qkv_size(), c.hidden_size));
      if (v.qkv_bias) layer.qkv_bias = ones(c.qkv_size());
      if (v.qk_norm == QkNorm::kEachHead) layer.q_norm = ones(c.head_dim), layer.k_norm = ones(c.head_dim);
      if (v.qk_norm == QkNorm::kJoinedHeads)
        layer.q_norm = ones(c.q_size()), layer.k_norm = ones(c.kv_size());
      layer.o = matrix(v.dtype, c.hidden_size, c.q_size());
      const MatrixSource gate = source(v.dtype, c.ffn_size, c.hidden_size);
      layer.gate_up = ops_->pack_gate_up(gate, gate);
      layer.down = matrix(v.dtype, c.hidden_size, c.ffn_size);
      weights_.layers.push_back(std::move(layer));
    }
    cache_.emplace(KvCacheConfig{.num_layers = static_cast<std::int32_t>(c.num_layers),
                                 .num_kv_heads = static_cast<std::int32_t>(c.num_kv_heads),
                                 .head_dim = static_cast<std::int32_t>(c.head_dim),
                                 .dtype = v.kv,
                                 .block_size = kBlockSize,
                                 .num_blocks = 64});
    model_.emplace(config_, weights_);

    StoredWeights stored = stored_weights(c, v.dtype);
    stored.embedding = v.embedding;
    if (v.tied) stored.head = v.embedding;
    estimate_.emplace(c, stored, v.kv,
                      [this](OpKind kind, DType dtype) { return ops_->compute_type(kind, dtype); });
  }

  const Estimate& estimate() const { return *estimate_; }

  StepCounts run(std::span<const BatchEntry> entries) {
    Batch batch(kBlockSize, 64);
    for (const BatchEntry& entry : entries) batch.add(entry);
    const BatchView view = batch.view();
    std::vector<float> logits(static_cast<std::size_t>(view.num_logit_rows() * config_.vocab_size));
    ops_->begin_step(view);
    model_->forward(*ops_, view, *cache_, f32_view(logits.data(), view.num_logit_rows(), config_.vocab_size));
    return ops_->end_step();
  }

 private:
  static constexpr std::int32_t kBlockSize = 16;

  MatrixSource source(DType dtype, std::int64_t rows, std::int64_t cols) {
    bytes_.push_back(std::vector<std::byte>(static_cast<std::size_t>(rows * row_bytes(dtype, cols))));
    for (std::byte& byte : bytes_.back()) byte = static_cast<std::byte>(random_() % 60);
    const std::byte* data = bytes_.back().data();
    return {dtype, rows, cols, [=](std::int64_t row) { return data + row * row_bytes(dtype, cols); }};
  }
  PackedVector ones(std::int64_t size) {
    return ops_->pack_vector(std::vector<float>(static_cast<std::size_t>(size), 1.0f));
  }
  PackedMatrix matrix(DType dtype, std::int64_t rows, std::int64_t cols) {
    return ops_->pack(source(dtype, rows, cols));
  }

  std::minstd_rand random_{1};
  std::vector<std::vector<std::byte>> bytes_;
  std::unique_ptr<Ops> ops_;
  ModelConfig config_;
  ModelWeights weights_;
  std::optional<KvCache> cache_;
  std::optional<Model> model_;
  std::optional<Estimate> estimate_;
};

std::vector<std::int32_t> tokens(int count) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 1);
  return ids;
}

BlockTable blocks_from(std::int32_t first) {
  BlockTable table(8);
  std::iota(table.begin(), table.end(), first);
  return table;
}

void expect_equal(const Counts& counts, const Work& work) {
  EXPECT_EQ(counts.flops[static_cast<std::size_t>(Part::kProjections)], work.projections);
  EXPECT_EQ(counts.flops[static_cast<std::size_t>(Part::kAttention)], work.attention);
  EXPECT_EQ(counts.flops[static_cast<std::size_t>(Part::kFfn)], work.ffn);
  EXPECT_EQ(counts.flops[static_cast<std::size_t>(Part::kHead)], work.head);
  EXPECT_EQ(counts.flops_by_type, work.flops_by_type);
  EXPECT_EQ(counts.weights, work.weights);
  EXPECT_EQ(counts.kv_read, work.kv_read);
  EXPECT_EQ(counts.kv_write, work.kv_write);
}

constexpr std::size_t kPrefill = static_cast<std::size_t>(Phase::kPrefill);
constexpr std::size_t kDecode = static_cast<std::size_t>(Phase::kDecode);

class WholeModel : public testing::TestWithParam<Variant> {};

TEST_P(WholeModel, PrefillInOneStep) {
  RandomModel model(GetParam());
  const auto ids = tokens(37);
  const BlockTable blocks = blocks_from(1);
  const BatchEntry entry{.tokens = ids, .blocks = &blocks, .logits = LogitRows::kLast};
  expect_equal(model.run({&entry, 1}).phase[kPrefill], model.estimate().prefill(37));
}

TEST_P(WholeModel, PrefillInChunksAfterACachedPrefix) {
  RandomModel model(GetParam());
  const auto ids = tokens(53);
  const BlockTable blocks = blocks_from(1);
  Counts total;
  for (int done = 0; done < 53; done += 20) {
    const int chunk = std::min(20, 53 - done);
    const BatchEntry entry{
        .tokens = std::span(ids).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(chunk)),
        .num_cached = 32 + done,
        .blocks = &blocks,
        .logits = done + chunk == 53 ? LogitRows::kLast : LogitRows::kNone};
    total += model.run({&entry, 1}).phase[kPrefill];
  }
  expect_equal(total, model.estimate().prefill(53, 32, 20));
}

TEST_P(WholeModel, DecodeOfABatch) {
  RandomModel model(GetParam());
  const auto ids = tokens(1);
  std::vector<BlockTable> tables;
  std::vector<BatchEntry> entries;
  for (std::int32_t s = 0; s < 5; ++s) tables.push_back(blocks_from(1 + 8 * s));
  for (const BlockTable& table : tables)
    entries.push_back({.tokens = ids,
                       .num_cached = 23,
                       .blocks = &table,
                       .phase = Phase::kDecode,
                       .logits = LogitRows::kLast});
  expect_equal(model.run(entries).phase[kDecode], model.estimate().decode(5, 23));
}

TEST_P(WholeModel, MixedStepSumsToTheWholeAndEachPhaseToItsFlops) {
  RandomModel model(GetParam());
  const auto prompt = tokens(30), one = tokens(1);
  const BlockTable a = blocks_from(1), b = blocks_from(9);
  const BatchEntry entries[] = {
      {.tokens = one, .num_cached = 17, .blocks = &a, .phase = Phase::kDecode, .logits = LogitRows::kLast},
      {.tokens = prompt, .num_cached = 16, .blocks = &b, .logits = LogitRows::kAll}};
  const StepCounts step = model.run(entries);
  const SequenceShape shapes[] = {{17, 1, 1}, {16, 30, 30}};
  Counts both = step.phase[kPrefill];
  both += step.phase[kDecode];
  expect_equal(both, model.estimate().step(shapes));
  EXPECT_EQ(step.phase[kDecode].useful_flops(), model.estimate().decode(1, 17).flops());
  Counts sequences;
  for (const Counts& c : step.sequences) sequences += c;
  EXPECT_EQ(sequences, both);
}

TEST_P(WholeModel, RecomputedTokensAreExecutedButNotUseful) {
  RandomModel model(GetParam());
  const auto ids = tokens(40);
  const BlockTable blocks = blocks_from(1);
  const BatchEntry entry{.tokens = ids, .num_recomputed = 39, .blocks = &blocks, .logits = LogitRows::kLast};
  const Counts c = model.run({&entry, 1}).phase[kPrefill];
  EXPECT_EQ(c.executed_flops(), model.estimate().prefill(40).flops());
  EXPECT_EQ(c.useful_flops(), model.estimate().prefill(1, 39).flops());
  EXPECT_EQ(c.tokens, 1);
  EXPECT_EQ(c.min_bytes() + c.wasted_bytes, model.estimate().prefill(40).bytes());
}

TEST(RealModel, CostsWhatItsFileSays) {
  const Checkpoint checkpoint(real_model_path());
  const auto ops = make_cpu_ops();
  const ModelWeights weights = load_weights(checkpoint, *ops);
  const StoredWeights stored = stored_weights(checkpoint);
  EXPECT_EQ(stored.parameters(), weights.parameters);
  EXPECT_EQ(stored.parameters(), 134'515'008) << "SmolLM2-135M";
  EXPECT_EQ(stored.bytes(), weights.type_bytes);

  const ModelConfig& c = checkpoint.config();
  KvCache cache({.num_layers = static_cast<std::int32_t>(c.num_layers),
                 .num_kv_heads = static_cast<std::int32_t>(c.num_kv_heads),
                 .head_dim = static_cast<std::int32_t>(c.head_dim),
                 .num_blocks = 16});
  Model model(c, weights);
  Batch batch(16, 16);
  const auto ids = tokens(4);
  const BlockTable blocks = blocks_from(1);
  batch.add({.tokens = ids, .num_cached = 8, .blocks = &blocks, .logits = LogitRows::kLast});
  std::vector<float> logits(static_cast<std::size_t>(c.vocab_size));
  ops->begin_step(batch.view());
  model.forward(*ops, batch.view(), cache, f32_view(logits.data(), 1, c.vocab_size));
  const Estimate estimate(c, stored, DType::kBF16,
                          [&](OpKind kind, DType dtype) { return ops->compute_type(kind, dtype); });
  expect_equal(ops->end_step().phase[kPrefill], estimate.prefill(4, 8));
}

INSTANTIATE_TEST_SUITE_P(
    Variants, WholeModel,
    testing::Values(Variant{"dense_tied", 4, 4, true, DType::kF32, DType::kF32, DType::kF32, false},
                    Variant{"gqa_untied", 6, 2, false, DType::kQ8_0, DType::kF16, DType::kBF16, false},
                    Variant{"mqa_tied_other_type", 4, 1, true, DType::kQ4_1, DType::kQ8_0, DType::kBF16,
                            false},
                    Variant{"cpu_gqa_untied", 6, 3, false, DType::kQ4_0, DType::kQ4_0, DType::kBF16, true},
                    Variant{"cpu_dense_tied", 2, 2, true, DType::kBF16, DType::kBF16, DType::kF32, true},
                    Variant{"bias", 6, 2, true, DType::kBF16, DType::kBF16, DType::kF32, false, true},
                    Variant{"cpu_bias_norm_each_head", 6, 2, false, DType::kQ8_0, DType::kF16, DType::kBF16,
                            true, true, QkNorm::kEachHead},
                    Variant{"norm_joined_heads", 6, 3, false, DType::kF16, DType::kF16, DType::kBF16, false,
                            false, QkNorm::kJoinedHeads, NormPlacement::kAfterBlock},
                    Variant{"windows",
                            6,
                            3,
                            true,
                            DType::kQ8_0,
                            DType::kQ8_0,
                            DType::kBF16,
                            false,
                            false,
                            QkNorm::kNone,
                            NormPlacement::kBeforeBlock,
                            {{true, 7}, {false, 0}, {true, 20}}},
                    Variant{"cpu_one_window",
                            6,
                            2,
                            false,
                            DType::kQ4_0,
                            DType::kQ8_0,
                            DType::kF32,
                            true,
                            false,
                            QkNorm::kNone,
                            NormPlacement::kBeforeBlock,
                            {{true, 19}, {true, 19}, {true, 19}}}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace redline
