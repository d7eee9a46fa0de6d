#include "engine/hf_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/model_file_error.h"
#include "tests/engine/tiny_llama.h"

namespace redline {
namespace {

class HfConfig : public ::testing::Test {
 protected:
  // `more`: fields after tiny_config_json's, each with its comma.
  ModelConfig read(const std::string& more) {
    return read_hf_config(directory_.write("config.json", tiny_config_json(more)));
  }
  std::string error_with(const std::string& more) {
    try {
      read(more);
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }
  std::string error_without(const std::string& field) {
    std::string text = tiny_config_json();
    text.replace(text.find('"' + field + '"'), field.size() + 2, "\"unused\"");
    try {
      read_hf_config(directory_.write("config.json", text));
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }
  TemporaryDirectory directory_;
};

TEST_F(HfConfig, ReadsTheFieldsOfALlama) {
  const ModelConfig config = read("");
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.num_q_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rotary_dim, 16);
  EXPECT_EQ(config.ffn_size, 96);
  EXPECT_EQ(config.vocab_size, 40);
  EXPECT_EQ(config.max_positions, 128);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 5000);
  EXPECT_EQ(config.rope_scaling.type, RopeType::kPlain);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(read(R"(,"head_dim":32,"tie_word_embeddings":true)").head_dim, 32);
  EXPECT_TRUE(read(R"(,"head_dim":null,"tie_word_embeddings":true)").tied_embeddings);
}

TEST_F(HfConfig, ReadsEachRotaryScaling) {
  EXPECT_EQ(read(R"(,"rope_scaling":null)").rope_scaling.type, RopeType::kPlain);
  const auto linear = read(R"(,"rope_scaling":{"type":"linear","factor":2.5})").rope_scaling;
  EXPECT_EQ(linear.type, RopeType::kLinear);
  EXPECT_EQ(linear.factor, 2.5);
  const auto llama3 = read(R"(,"rope_scaling":{"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,)"
                           R"("high_freq_factor":4.0,"original_max_position_embeddings":8192})")
                          .rope_scaling;
  EXPECT_EQ(llama3.type, RopeType::kLlama3);
  EXPECT_EQ(llama3.factor, 32);
  EXPECT_EQ(llama3.low_freq_factor, 1);
  EXPECT_EQ(llama3.high_freq_factor, 4);
  EXPECT_EQ(llama3.original_max_positions, 8192);
  const auto yarn =
      read(R"(,"rope_scaling":{"rope_type":"yarn","factor":4.0,"beta_fast":16,"truncate":false})")
          .rope_scaling;
  EXPECT_EQ(yarn.type, RopeType::kYarn);
  EXPECT_EQ(yarn.original_max_positions, 128);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_FALSE(yarn.truncate);
  EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.1 * std::log(4.0) + 1);
  const auto scaled =
      read(R"(,"rope_scaling":{"rope_type":"yarn","factor":4.0,"mscale":0.5,"mscale_all_dim":0.25})")
          .rope_scaling;
  EXPECT_DOUBLE_EQ(scaled.attention_factor, (0.05 * std::log(4.0) + 1) / (0.025 * std::log(4.0) + 1));
  const auto given =
      read(R"(,"rope_scaling":{"rope_type":"yarn","factor":4.0,"attention_factor":1.25})").rope_scaling;
  EXPECT_EQ(given.attention_factor, 1.25);
}

TEST_F(HfConfig, ReadsRopeParametersAsNewerFilesWriteThem) {
  const ModelConfig plain = read(R"(,"rope_parameters":{"rope_type":"default","rope_theta":70000})");
  EXPECT_EQ(plain.rope_theta, 70000);
  EXPECT_EQ(plain.rope_scaling.type, RopeType::kPlain);
  const ModelConfig scaled =
      read(R"(,"rope_parameters":{"rope_type":"linear","factor":3,"rope_theta":70000})");
  EXPECT_EQ(scaled.rope_theta, 70000);
  EXPECT_EQ(scaled.rope_scaling.factor, 3);
}

TEST_F(HfConfig, RefusesWhatIsNotSupportedByField) {
  const auto expect = [&](const std::string& more, const char* message) {
    EXPECT_NE(error_with(more).find(message), std::string::npos) << more << ": " << error_with(more);
  };
  expect(R"(,"attention_bias":true)", "attention_bias: expected false, found true");
  expect(R"(,"mlp_bias":true)", "mlp_bias: expected false, found true");
  expect(R"(,"attention_bias":1)", "attention_bias: expected true or false, found 1");
  expect(R"(,"partial_rotary_factor":0.5)", "partial_rotary_factor: expected 1, found 0.5");
  expect(R"(,"head_dim":7)", "head_dim: expected an even head dimension");
  expect(R"(,"rope_scaling":{"rope_type":"dynamic","factor":2})",
         "rope_scaling.rope_type: expected default, linear, llama3, yarn or longrope");
  expect(R"(,"rope_scaling":{"rope_type":"longrope","factor":2,"long_factor":[1,1,1,1,1,1,1,1]})",
         "rope_scaling.short_factor: expected 8 positive numbers, found nothing");
  expect(R"(,"rope_scaling":{"rope_type":"longrope","short_factor":[1,1,1,1,1,1,1,0]})",
         "rope_scaling.short_factor: expected 8 positive numbers, found [1,1,1,1,1,1,1,0]");
  expect(R"(,"rope_scaling":{"rope_type":"llama3","factor":8})",
         "rope_scaling.original_max_position_embeddings");
  expect(R"(,"rope_scaling":{"rope_type":"linear"})",
         "rope_scaling.factor: expected a positive number, found nothing");
  expect(R"(,"rope_scaling":{"rope_type":"linear","factor":-1})",
         "rope_scaling.factor: expected a positive number, found -1");
  expect(R"(,"rope_scaling":[])", "rope_scaling: expected an object, found []");
  expect(R"(,"vocab_size":41)", "key \"vocab_size\": expected each key once, found it twice");
}

// tiny_config_json as another architecture's.
std::string config_of(const std::string& type, const std::string& class_name, const std::string& more) {
  std::string text = tiny_config_json(more);
  const auto replace = [&](const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
  };
  replace("\"llama\"", '"' + type + '"');
  replace("LlamaForCausalLM", class_name);
  return text;
}

class Architectures : public HfConfig {
 protected:
  ModelConfig read_as(const std::string& type, const std::string& class_name, const std::string& more) {
    return read_hf_config(directory_.write("config.json", config_of(type, class_name, more)));
  }
  std::string error_as(const std::string& type, const std::string& class_name, const std::string& more) {
    try {
      read_as(type, class_name, more);
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }
  using Layers = std::vector<LayerConfig>;
};

TEST_F(Architectures, EachRowImpliesWhatNoFieldSays) {
  EXPECT_TRUE(read_as("qwen2", "Qwen2ForCausalLM", "").qkv_bias);
  const ModelConfig qwen3 = read_as("qwen3", "Qwen3ForCausalLM", "");
  EXPECT_EQ(qwen3.qk_norm, QkNorm::kEachHead);
  EXPECT_EQ(qwen3.head_dim, 128);
  const ModelConfig olmo2 = read_as("olmo2", "Olmo2ForCausalLM", "");
  EXPECT_EQ(olmo2.qk_norm, QkNorm::kJoinedHeads);
  EXPECT_EQ(olmo2.norm_placement, NormPlacement::kAfterBlock);
  EXPECT_TRUE(read_as("smollm3", "SmolLM3ForCausalLM", "").tied_embeddings);
}

TEST_F(Architectures, WindowsAreOfTheLayersThatTheFilesSay) {
  const auto mistral = [&](const std::string& more) {
    return read_as("mistral", "MistralForCausalLM", more).layers;
  };
  EXPECT_EQ(mistral(R"(,"sliding_window":null)"), Layers());
  EXPECT_EQ(mistral(R"(,"sliding_window":100)"), (Layers{{true, 100}, {true, 100}}));
  EXPECT_EQ(mistral(""), (Layers{{true, 4096}, {true, 4096}})) << "transformers' default";
  const auto qwen = [&](const std::string& more) {
    return read_as("qwen2", "Qwen2ForCausalLM", R"(,"sliding_window":9,"max_window_layers":1)" + more);
  };
  EXPECT_EQ(qwen("").layers, Layers());
  EXPECT_EQ(qwen(R"(,"use_sliding_window":true)").layers, (Layers{{true, 0}, {true, 9}}));
  EXPECT_EQ(qwen(R"(,"use_sliding_window":true)").window(), 0);
  EXPECT_EQ(qwen(R"(,"use_sliding_window":true,"layer_types":["sliding_attention","full_attention"])").layers,
            (Layers{{true, 9}, {true, 0}}));
  EXPECT_NE(error_as("qwen2", "Qwen2ForCausalLM",
                     R"(,"sliding_window":9,"use_sliding_window":true,"layer_types":["chunked","x"])")
                .find("layer_types: expected an array of \"full_attention\" and"),
            std::string::npos);
}

TEST_F(Architectures, LayersWithoutRotationAreCountedOrListed) {
  const auto smollm3 = [&](const std::string& more) {
    return read_as("smollm3", "SmolLM3ForCausalLM", more).layers;
  };
  EXPECT_EQ(smollm3(""), Layers()) << "every fourth of two";
  EXPECT_EQ(smollm3(R"(,"no_rope_layer_interval":2)"), (Layers{{true, 0}, {false, 0}}));
  EXPECT_EQ(smollm3(R"(,"no_rope_layers":[0,1])"), (Layers{{false, 0}, {true, 0}}));
  EXPECT_NE(error_as("smollm3", "SmolLM3ForCausalLM", R"(,"no_rope_layers":[0])")
                .find("no_rope_layers: expected an array of 2, found [0]"),
            std::string::npos);
}

TEST_F(Architectures, PhiRotatesAPartOfEachHeadByTheContextsFactors) {
  const std::string factors = R"("short_factor":[1,1,1,1],"long_factor":[2,2,2,2])";
  const std::string more = R"(,"partial_rotary_factor":0.5,"original_max_position_embeddings":32)";
  const ModelConfig phi =
      read_as("phi3", "Phi3ForCausalLM", more + R"(,"rope_scaling":{"type":"su",)" + factors + "}");
  EXPECT_EQ(phi.rotary_dim, 8);
  EXPECT_EQ(phi.rope_scaling.type, RopeType::kLongRope);
  EXPECT_EQ(phi.rope_scaling.original_max_positions, 32);
  EXPECT_DOUBLE_EQ(phi.rope_scaling.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(32.0)));
  EXPECT_EQ(phi.rope_scaling.long_divisors, std::vector<float>(4, 2.0f));
  EXPECT_NE(error_as("phi3", "Phi3ForCausalLM", R"(,"partial_rotary_factor":0.2)")
                .find("partial_rotary_factor: expected an even part of 16 dimensions"),
            std::string::npos);
  EXPECT_NE(error_as("qwen2", "Qwen2ForCausalLM", R"(,"partial_rotary_factor":0.5)")
                .find("partial_rotary_factor: expected 1, found 0.5"),
            std::string::npos);
}

TEST_F(Architectures, GraniteMultiplies) {
  const ModelConfig c = read_as("granite", "GraniteForCausalLM",
                                R"(,"embedding_multiplier":12,"residual_multiplier":0.22,)"
                                R"("attention_multiplier":0.0078125,"logits_scaling":8)");
  EXPECT_EQ(c.embedding_multiplier, 12);
  EXPECT_EQ(c.residual_multiplier, 0.22);
  EXPECT_EQ(c.attention_multiplier, 0.0078125);
  EXPECT_EQ(c.logits_divisor, 8);
  EXPECT_NE(error_as("granite", "GraniteForCausalLM", R"(,"residual_multiplier":0)")
                .find("residual_multiplier: expected a positive number, found 0"),
            std::string::npos);
}

TEST_F(HfConfig, NamesTheFieldThatIsMissing) {
  for (const char* field : {"num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size",
                            "num_attention_heads", "model_type"})
    EXPECT_NE(error_without(field).find(std::string(field) + ": expected "), std::string::npos)
        << error_without(field);
}

TEST_F(HfConfig, NamesTheFieldThatIsOutOfRange) {
  const auto with = [&](const std::string& field, const std::string& value) -> std::string {
    std::string text = tiny_config_json();
    const auto start = text.find('"' + field + '"') + field.size() + 3;
    text.replace(start, text.find_first_of(",}", start) - start, value);
    try {
      read_hf_config(directory_.write("config.json", text));
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  };
  ASSERT_EQ(with("num_hidden_layers", "2"), "");
  for (const char* field : {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
                            "intermediate_size", "vocab_size", "max_position_embeddings"})
    for (const char* value :
         {"0", "-1", "2.5", "1e30", "16777217", "18446744073709551616", "\"2\"", "[2]", "true"})
      EXPECT_NE(with(field, value).find(std::string(field) + ": expected an integer from 1 to 2^24"),
                std::string::npos)
          << field << " " << value << ": " << with(field, value);
  EXPECT_NE(with("num_hidden_layers", "65537").find("num_hidden_layers: expected at most 65536 layers"),
            std::string::npos);
  EXPECT_NE(with("num_key_value_heads", "3").find("num_key_value_heads: expected a divisor"),
            std::string::npos);
  EXPECT_NE(with("num_attention_heads", "6").find("num_attention_heads: expected a divisor"),
            std::string::npos);
  EXPECT_NE(with("rms_norm_eps", "0").find("rms_norm_eps: expected a positive number"), std::string::npos);
  EXPECT_NE(with("hidden_act", "\"gelu\"").find("hidden_act: expected \"silu\", found \"gelu\""),
            std::string::npos);
  EXPECT_NE(with("model_type", "\"gpt2\"").find("model_type: expected one of llama, "), std::string::npos);
  EXPECT_NE(with("model_type", "\"gpt2\"").find("found \"gpt2\""), std::string::npos);
  EXPECT_NE(
      with("architectures", "[\"Qwen2ForCausalLM\"]").find("architectures: expected [\"LlamaForCausalLM\"]"),
      std::string::npos);
}

}  // namespace
}  // namespace redline
