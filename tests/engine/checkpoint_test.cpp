#include "engine/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/gguf.h"
#include "engine/model_file_error.h"
#include "engine/weights.h"
#include "tests/engine/real_model.h"
#include "tests/engine/tiny_llama.h"

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
  EXPECT_TRUE(spec.prefix_ids.empty());
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

std::vector<float> all_values(const Checkpoint& checkpoint, TensorRole role, std::int64_t layer) {
  const MatrixSource source = checkpoint.matrix(role, layer);
  std::vector<float> values(static_cast<std::size_t>(source.rows * source.cols));
  for (std::int64_t i = 0; i < source.rows; ++i)
    dequantize_row(source.dtype, source.row(i), source.cols, values.data() + i * source.cols);
  return values;
}

std::string error_of(const std::string& reference) {
  try {
    const Checkpoint checkpoint(reference);
    const auto ops = make_reference_ops();
    load_weights(checkpoint, *ops);
    checkpoint.tokenizer_spec();
  } catch (const ModelFileError& error) {
    return error.what();
  }
  return "";
}

void write_hf(const TemporaryDirectory& directory, const std::string& folder, DType dtype, bool tied) {
  directory.write(folder + "/config.json", tiny_config_json(tied ? R"(,"tie_word_embeddings":true)" : ""));
  directory.write(folder + "/model.safetensors", safetensors_bytes(tiny_tensors(dtype, tied)));
}

TEST(Checkpoint, GivesTheSameModelFromEitherFormat) {
  const TemporaryDirectory directory;
  for (const bool tied : {false, true})
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      write_hf(directory, "model", dtype, tied);
      directory.write("model.gguf", tiny_gguf(dtype, tied).finish());
      const Checkpoint hf((directory.path() / "model").string()),
          gguf((directory.path() / "model.gguf").string());
      EXPECT_EQ(hf.config().name, "model");
      EXPECT_EQ(gguf.config().name, "model");
      EXPECT_EQ(hf.config().tied_embeddings, tied);
      EXPECT_EQ(gguf.config().tied_embeddings, tied);
      EXPECT_EQ(hf.config().vocab_size, 40);
      EXPECT_EQ(gguf.config().vocab_size, 40);
      EXPECT_EQ(gguf.config().rope_theta, hf.config().rope_theta);
      for_each_tensor(hf.config(), [&](TensorRole role, std::int64_t layer) {
        if (tensor_shape(role, hf.config()).size() == 1) return;
        EXPECT_EQ(all_values(hf, role, layer), all_values(gguf, role, layer)) << static_cast<int>(role);
      });
    }
}

TEST(Checkpoint, OpensShardsAndIgnoresWhatFollowsFromTheConfiguration) {
  const TemporaryDirectory directory;
  auto tensors = tiny_tensors(DType::kF32, false);  // with a head, which the configuration ties
  tensors.push_back(
      {"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {8}, std::string(32, '\0')});
  std::ostringstream weight_map;
  std::vector<TensorToWrite> halves[2];
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    halves[i % 2].push_back(tensors[i]);
    weight_map << (i > 0 ? ",\"" : "\"") << tensors[i].name << "\":\"" << i % 2 << ".safetensors\"";
  }
  directory.write("config.json", tiny_config_json(R"(,"tie_word_embeddings":true)"));
  directory.write("0.safetensors", safetensors_bytes(halves[0]));
  directory.write("1.safetensors", safetensors_bytes(halves[1]));
  directory.write("model.safetensors.index.json", R"({"weight_map":{)" + weight_map.str() + "}}");
  const Checkpoint checkpoint(directory.path().string());
  EXPECT_EQ(checkpoint.tensor(TensorRole::kDown, 1).name, "model.layers.1.mlp.down_proj.weight");
}

TEST(Checkpoint, NamesTheTensorThatIsMissingOrHasAnotherShapeOrIsUnknown) {
  const TemporaryDirectory directory;
  const auto error_with = [&](const std::vector<TensorToWrite>& tensors) {
    directory.write("m/config.json", tiny_config_json());
    directory.write("m/model.safetensors", safetensors_bytes(tensors));
    return error_of((directory.path() / "m").string());
  };
  auto tensors = tiny_tensors(DType::kF32, false);
  tensors[3].name += "x";
  EXPECT_NE(
      error_with(tensors).find("tensor \"model.layers.0.self_attn.k_proj.weight\": expected shape [32, 64], "
                               "found no such tensor"),
      std::string::npos)
      << error_with(tensors);
  tensors = tiny_tensors(DType::kF32, false);
  tensors[3].shape = {64, 32};
  EXPECT_NE(error_with(tensors).find("expected shape [32, 64], found [64, 32]"), std::string::npos);
  tensors = tiny_tensors(DType::kF32, false);
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", DType::kF32, {1}, std::string(4, '\1')});
  EXPECT_NE(error_with(tensors).find("tensor \"model.layers.0.self_attn.q_proj.bias\""), std::string::npos);
  tensors.back().data = std::string(4, '\0');
  EXPECT_NE(error_with(tensors).find("tokenizer.json: cannot be read"), std::string::npos)
      << "a bias of zeros changes nothing: only what this model lacks is left";
}

TEST(Checkpoint, SurvivesEveryFieldOfAModelSetToExtremes) {
  const TemporaryDirectory directory;
  GgufWriter writer = tiny_gguf(DType::kQ4_1, true);
  const std::string good = writer.finish();
  const auto path = directory.write("model.gguf", good).string();
  ASSERT_EQ(error_of(path), "");
  int num_refused = 0;
  for (const auto& field : writer.fields())
    for (const std::uint64_t value : {0ull, 3ull, 1ull << 24, ~0ull}) {
      std::string bad = good;
      const auto bytes = bytes_of(value).substr(0, std::min<std::size_t>(field.size, 8));
      bad.replace(field.offset, bytes.size(), bytes);
      directory.write("model.gguf", bad);
      num_refused += !error_of(path).empty();
    }
  EXPECT_GT(num_refused, 150);
}

TEST(Checkpoint, NamesTheKeyOfWhatIsNotSupported) {
  const TemporaryDirectory directory;
  const auto error_with = [&](auto&& add) {
    GgufWriter writer = tiny_gguf(DType::kF32, true);
    add(writer);
    return error_of(directory.write("model.gguf", writer.finish()).string());
  };
  const auto expect = [](const std::string& error, const char* text) {
    EXPECT_NE(error.find(text), std::string::npos) << error;
  };
  expect(error_with([](GgufWriter& w) { w.add_u32("llama.expert_count", 8); }), "key \"llama.expert_count\"");
  expect(error_with([](GgufWriter& w) { w.add_u32("llama.rope.dimension_count", 8); }),
         "expected the head dimension 16, found 8");
  expect(error_with([](GgufWriter& w) { w.add_u32("llama.attention.key_length", 15); }),
         "expected an even head dimension, found 15");
  expect(error_with([](GgufWriter& w) { w.add_u32("llama.vocab_size", 41); }),
         "expected the embedding's 40 rows, found 41");
  expect(error_with([](GgufWriter& w) { w.add_f32("llama.residual_scale", 0.5F); }),
         "key \"llama.residual_scale\"");
  expect(error_with([](GgufWriter& w) { w.add_f32("llama.attention.scale", 0.5F); }),
         "expected none, found 0.5");
  expect(error_with([](GgufWriter& w) { w.add_string("llama.rope.scaling.type", "longrope"); }),
         "expected none, linear or yarn, found \"longrope\"");
  expect(error_with([](GgufWriter& w) { w.add_u32("tokenizer.ggml.bos_token_id", 40); }),
         "expected a token below 40, found 40");
  expect(error_with([](GgufWriter& w) {
           w.add_tensor({"rope_freqs.weight", DType::kF32, {7}, std::string(28, '\1')});
         }),
         "tensor \"rope_freqs.weight\"");
  GgufWriter other;
  other.add_string("general.architecture", "mamba");
  expect(error_of(directory.write("model.gguf", other.finish()).string()),
         "key \"general.architecture\", at byte 24: expected one of llama, qwen2, qwen3, ");
  expect(error_of(directory.write("model.gguf", other.finish()).string()), "found \"mamba\"");
}

TEST(Checkpoint, ReadsTheRotaryScalingsOfGguf) {
  const TemporaryDirectory directory;
  const auto scaling_with = [&](auto&& add) {
    GgufWriter writer = tiny_gguf(DType::kF32, true);
    add(writer);
    return Checkpoint(directory.write("model.gguf", writer.finish()).string()).config().rope_scaling;
  };
  const auto linear = scaling_with([](GgufWriter& w) {
    w.add_string("llama.rope.scaling.type", "linear");
    w.add_f32("llama.rope.scaling.factor", 4);
  });
  EXPECT_EQ(linear.type, RopeType::kLinear);
  EXPECT_EQ(linear.factor, 4);
  const auto yarn = scaling_with([](GgufWriter& w) {
    w.add_string("llama.rope.scaling.type", "yarn");
    w.add_f32("llama.rope.scaling.factor", 16);
    w.add_u32("llama.rope.scaling.original_context_length", 64);
  });
  EXPECT_EQ(yarn.type, RopeType::kYarn);
  EXPECT_EQ(yarn.original_max_positions, 64);
  EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.1 * std::log(16.0) + 1);
  std::string divisors;
  for (int i = 0; i < 8; ++i) divisors += bytes_of(static_cast<float>(i + 1));
  const auto llama3 = scaling_with([&](GgufWriter& w) {
    w.add_tensor({"rope_freqs.weight", DType::kF32, {8}, divisors});
  });
  EXPECT_EQ(llama3.frequency_divisors, (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(LoadWeights, PacksMixedTypesApartAndUnalignedFilesToo) {
  const TemporaryDirectory directory;
  auto tensors = as_gguf(tiny_tensors(DType::kF32, true));
  const auto bf16 = as_gguf(tiny_tensors(DType::kBF16, true));
  GgufWriter writer = tiny_gguf(DType::kF32, true);
  GgufWriter mixed;
  mixed = writer;
  mixed.remove_tensors();
  mixed.add_u32("general.alignment", 1);
  mixed.add_tensor({"rope_freqs.weight", DType::kF32, {8}, std::string(32, '\x3f')});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& name = tensors[i].name;
    const bool narrow = name == "blk.1.attn_v.weight" || name == "blk.0.ffn_up.weight";
    mixed.add_tensor(narrow ? bf16[i] : tensors[i]);
  }
  std::string bytes = mixed.finish(1);
  const Checkpoint checkpoint(directory.write("model.gguf", bytes).string());
  const auto ops = make_reference_ops();
  const ModelWeights weights = load_weights(checkpoint, *ops);
  EXPECT_EQ(weights.stored_bytes, weight_memory_bytes(checkpoint, *ops));
  EXPECT_EQ(weights.layers[0].qkv.size(), 1U);
  EXPECT_EQ(weights.layers[1].qkv.size(), 3U);
  EXPECT_FALSE(weights.layers[0].gate_up);
  ASSERT_TRUE(weights.layers[0].up);
  EXPECT_TRUE(weights.layers[1].gate_up);
  std::vector<float> row(64), expected = all_values(checkpoint, TensorRole::kUp, 0);
  ops->unpack_row(weights.layers[0].up->view, 95, row.data());
  EXPECT_EQ(row, std::vector<float>(expected.end() - 64, expected.end()));
}

TEST(LoadWeights, NameTheTensorThatATypesBlockDoesNotDivide) {
  const TemporaryDirectory directory;
  std::vector<TensorToWrite> tensors = tiny_tensors(DType::kF32, true);
  for (auto& tensor : tensors)
    if (tensor.name.find("mlp") != std::string::npos) {
      for (auto& dim : tensor.shape)
        if (dim == 96) dim = 80;
      tensor.data.resize(tensor.data.size() * 80 / 96);
    }
  std::string config = tiny_config_json(R"(,"tie_word_embeddings":true)");
  config.replace(config.find(":96"), 3, ":80");
  directory.write("config.json", config);
  directory.write("model.safetensors", safetensors_bytes(tensors));
  const Checkpoint checkpoint(directory.path().string());
  const auto ops = make_reference_ops();
  LoadOptions options;
  options.dtype = DType::kQ8_0;
  try {
    load_weights(checkpoint, *ops, options);
    FAIL() << "not refused";
  } catch (const ModelFileError& error) {
    EXPECT_NE(std::string(error.what()).find("mlp.down_proj.weight"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("found 80"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace redline
