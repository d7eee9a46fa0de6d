// A tiny llama model in any of the formats, with weights from a seed.
#pragma once

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor_role.h"
#include "kernels/convert.h"
#include "tests/engine/model_files.h"

namespace redline {

inline ModelConfig tiny_config() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = config.rotary_dim = 16;
  config.ffn_size = 96;
  config.vocab_size = 40;
  config.max_positions = 128;
  config.rms_norm_eps = 1e-6;
  config.rope_theta = 5000;
  return config;
}

/// tiny_config's tensors under Hugging Face's names, rows in its order; norms f32.
inline std::vector<TensorToWrite> tiny_tensors(DType dtype, bool tied) {
  ModelConfig config = tiny_config();
  config.tied_embeddings = tied;
  const std::map<TensorRole, std::string> names = {{TensorRole::kEmbedding, "model.embed_tokens.weight"},
                                                   {TensorRole::kFinalNorm, "model.norm.weight"},
                                                   {TensorRole::kHead, "lm_head.weight"},
                                                   {TensorRole::kAttnNorm, "input_layernorm.weight"},
                                                   {TensorRole::kQ, "self_attn.q_proj.weight"},
                                                   {TensorRole::kK, "self_attn.k_proj.weight"},
                                                   {TensorRole::kV, "self_attn.v_proj.weight"},
                                                   {TensorRole::kO, "self_attn.o_proj.weight"},
                                                   {TensorRole::kFfnNorm, "post_attention_layernorm.weight"},
                                                   {TensorRole::kGate, "mlp.gate_proj.weight"},
                                                   {TensorRole::kUp, "mlp.up_proj.weight"},
                                                   {TensorRole::kDown, "mlp.down_proj.weight"}};
  std::vector<TensorToWrite> tensors;
  std::mt19937 random(17);
  for_each_tensor(config, [&](TensorRole role, std::int64_t layer) {
    const std::string prefix = is_per_layer(role) ? "model.layers." + std::to_string(layer) + "." : "";
    const auto shape = tensor_shape(role, config);
    const DType type = shape.size() == 1 ? DType::kF32 : dtype;
    std::string data;
    const auto cols = shape.back();
    std::vector<float> row(static_cast<std::size_t>(cols));
    std::string bytes(static_cast<std::size_t>(row_bytes(type, cols)), '\0');
    for (std::int64_t i = 0; i < (shape.size() == 1 ? 1 : shape[0]); ++i) {
      for (float& x : row) x = (static_cast<float>(random() >> 8) * 0x1p-24F - 0.5F) * 0.2F;
      quantize_row(type, row.data(), cols, reinterpret_cast<std::byte*>(bytes.data()));
      data += bytes;
    }
    tensors.push_back({prefix + names.at(role), type, shape, data});
  });
  return tensors;
}

inline std::string tiny_config_json(const std::string& more_fields = "") {
  return R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","num_hidden_layers":2,"hidden_size":64,)"
         R"("num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":96,"vocab_size":40,)"
         R"("max_position_embeddings":128,"rms_norm_eps":1e-06,"rope_theta":5000.0,"hidden_act":"silu")" +
         more_fields + "}";
}

/// The same tensors as GGUF holds them: its names, and the rows of a head of q and k interleaved, (i, i + d /
/// 2) becoming (2 i, 2 i + 1).
inline std::vector<TensorToWrite> as_gguf(std::vector<TensorToWrite> tensors) {
  const std::pair<std::string, std::string> renames[] = {{"model.embed_tokens", "token_embd"},
                                                         {"model.norm", "output_norm"},
                                                         {"lm_head", "output"},
                                                         {"model.layers", "blk"},
                                                         {"input_layernorm", "attn_norm"},
                                                         {"self_attn.q_proj", "attn_q"},
                                                         {"self_attn.k_proj", "attn_k"},
                                                         {"self_attn.v_proj", "attn_v"},
                                                         {"self_attn.o_proj", "attn_output"},
                                                         {"post_attention_layernorm", "ffn_norm"},
                                                         {"mlp.gate_proj", "ffn_gate"},
                                                         {"mlp.up_proj", "ffn_up"},
                                                         {"mlp.down_proj", "ffn_down"}};
  for (auto& tensor : tensors) {
    const bool rotary =
        tensor.name.find(".q_proj") != std::string::npos || tensor.name.find(".k_proj") != std::string::npos;
    for (const auto& [from, to] : renames)
      if (const auto at = tensor.name.find(from); at != std::string::npos)
        tensor.name.replace(at, from.size(), to);
    if (!rotary) continue;
    const std::size_t rows = static_cast<std::size_t>(tensor.shape[0]), stride = tensor.data.size() / rows;
    std::string interleaved;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t in_head = row % 16;
      const std::size_t source = row - in_head + in_head / 2 + (in_head % 2) * 8;
      interleaved += tensor.data.substr(source * stride, stride);
    }
    tensor.data = interleaved;
  }
  return tensors;
}

inline GgufWriter tiny_gguf(DType dtype, bool tied) {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_u32("llama.block_count", 2);
  writer.add_u32("llama.context_length", 128);
  writer.add_u32("llama.embedding_length", 64);
  writer.add_u32("llama.feed_forward_length", 96);
  writer.add_u32("llama.attention.head_count", 4);
  writer.add_u32("llama.attention.head_count_kv", 2);
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-6F);
  writer.add_f32("llama.rope.freq_base", 5000);
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", "gpt-2");
  std::vector<std::string> tokens;
  for (char c = 'A'; c < 'A' + 38; ++c) tokens.emplace_back(1, c);
  tokens.emplace_back("AB");
  tokens.emplace_back("<|end|>");
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_strings("tokenizer.ggml.merges", {"A B"});
  std::string types;
  for (int i = 0; i < 40; ++i) types += bytes_of(std::int32_t{i == 39 ? 3 : 1});
  writer.add_array("tokenizer.ggml.token_type", 5, 40, types);
  writer.add_u32("tokenizer.ggml.eos_token_id", 39);
  for (const auto& tensor : as_gguf(tiny_tensors(dtype, tied))) writer.add_tensor(tensor);
  return writer;
}

}  // namespace redline
