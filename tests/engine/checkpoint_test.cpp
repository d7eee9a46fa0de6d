#include "engine/checkpoint.h"

#include <gtest/gtest.h>

#include "engine/gguf.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

TEST(Checkpoint, OpensTheRealModel) {
  const Checkpoint checkpoint(real_model_path());
  const ModelConfig& config = checkpoint.config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_q_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.rotary_dim, 64);
  EXPECT_EQ(config.ffn_size, 1536);
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.max_positions, 8192);
  EXPECT_FLOAT_EQ(static_cast<float>(config.rms_norm_eps), 1e-5F);
  EXPECT_EQ(config.rope_theta, 100000.0);
  EXPECT_EQ(config.rope_scaling.type, RopeType::kPlain);
  EXPECT_TRUE(config.rope_scaling.frequency_divisors.empty());
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(checkpoint.tensor(TensorRole::kEmbedding).dtype, DType::kQ8_0);
  EXPECT_EQ(checkpoint.tensor(TensorRole::kDown, 29).dtype, DType::kQ4_1);
  EXPECT_EQ(GgufFile(real_model_path()).tensors().size(), 272U);
}

TEST(Checkpoint, ReadsTheRealModelsTokenizer) {
  const TokenizerSpec spec = Checkpoint(real_model_path()).tokenizer_spec();
  EXPECT_EQ(spec.tokens.size(), 49152U);
  EXPECT_EQ(spec.merges.size(), 48900U);
  EXPECT_EQ(spec.merges.front(), "\u0120 t");
  EXPECT_EQ(spec.bos_id, 1);
  EXPECT_EQ(spec.eos_id, 2);
  EXPECT_FALSE(spec.add_bos);
  EXPECT_EQ(spec.added_tokens.front().content, "<|endoftext|>");
  EXPECT_TRUE(spec.added_tokens.front().special);
  EXPECT_EQ(spec.chat_template.substr(0, 30), "{% for message in messages %}{");
}

TEST(Checkpoint, UndoesTheInterleavingOfRotaryRows) {
  const Checkpoint checkpoint(real_model_path());
  const MatrixSource q = checkpoint.matrix(TensorRole::kQ, 3);
  const FileTensor& tensor = checkpoint.tensor(TensorRole::kQ, 3);
  const auto stride = row_bytes(q.dtype, q.cols);
  // Row i of a head pairs with row i + 32; the file holds them as rows 2 i and 2 i + 1.
  EXPECT_EQ(q.row(64 + 5), tensor.data.data() + (64 + 10) * stride);
  EXPECT_EQ(q.row(64 + 37), tensor.data.data() + (64 + 11) * stride);
  const MatrixSource v = checkpoint.matrix(TensorRole::kV, 3);
  EXPECT_EQ(v.row(7), checkpoint.tensor(TensorRole::kV, 3).data.data() + 7 * stride);
}

}  // namespace
}  // namespace redline
