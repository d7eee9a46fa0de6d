#include "engine/checkpoint.h"

#include <string_view>
#include <unordered_map>
#include <utility>

#include "engine/architecture.h"
#include "engine/gguf_model.h"
#include "engine/hf_config.h"
#include "engine/model_file_error.h"
#include "engine/model_reference.h"
#include "engine/tokenizer_json.h"

namespace redline {
// A layer's tensor is called layer_prefix, the layer's number, ".", then its role's name.
struct Checkpoint::Naming {
  const char* layer_prefix;
  const char* role_names[kNumTensorRoles];

  std::string name(TensorRole role, std::int64_t layer) const {
    const char* role_name = role_names[static_cast<int>(role)];
    return is_per_layer(role) ? layer_prefix + std::to_string(layer) + "." + role_name : role_name;
  }
};

const Checkpoint::Naming Checkpoint::kGgufNaming = {
    "blk.",
    {"token_embd.weight", "output_norm.weight", "output.weight", "attn_norm.weight", "attn_q.weight",
     "attn_k.weight", "attn_v.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_q_norm.weight",
     "attn_k_norm.weight", "attn_output.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight",
     "ffn_down.weight"}};

const Checkpoint::Naming Checkpoint::kHfNaming = {
    "model.layers.",
    {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "input_layernorm.weight",
     "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.q_proj.bias",
     "self_attn.k_proj.bias", "self_attn.v_proj.bias", "self_attn.q_norm.weight", "self_attn.k_norm.weight",
     "self_attn.o_proj.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
     "mlp.up_proj.weight", "mlp.down_proj.weight"}};

Checkpoint::Checkpoint(const std::string& reference) {
  auto [path, name] = find_model(reference);
  path_ = std::move(path);
  std::filesystem::is_directory(path_) ? open_directory() : open_gguf();
  config_.name = std::move(name);
}

Checkpoint::~Checkpoint() = default;

void Checkpoint::open_gguf() {
  gguf_ = std::make_unique<GgufFile>(path_);
  config_ = gguf_model_config(*gguf_);
  interleaved_rope_ = find_hf_architecture(config_.architecture)->gguf_interleaves_rope;
  std::vector<const FileTensor*> tensors;
  for (const FileTensor& tensor : gguf_->tensors())
    if (tensor.name != "rope_freqs.weight") tensors.push_back(&tensor);  // part of the configuration
  bind(tensors, kGgufNaming);
}

void Checkpoint::open_directory() {
  config_ = read_hf_config(path_ / "config.json");
  safetensors_ = open_safetensors(path_);
  std::vector<const FileTensor*> tensors;
  // Old checkpoints hold what follows from the configuration: rotary frequencies, a tied head's copy.
  const auto follows = [&](const std::string& name) {
    return name.ends_with(".rotary_emb.inv_freq") || (config_.tied_embeddings && name == "lm_head.weight");
  };
  for (const auto& file : safetensors_)
    for (const FileTensor& tensor : file->tensors())
      if (!follows(tensor.name)) tensors.push_back(&tensor);
  bind(tensors, kHfNaming);
}

void Checkpoint::bind(const std::vector<const FileTensor*>& tensors, const Naming& naming) {
  std::unordered_map<std::string_view, const FileTensor*> unused;
  for (const FileTensor* tensor : tensors) unused.emplace(tensor->name, tensor);
  for_each_tensor(config_, [&](TensorRole role, std::int64_t layer) {
    const auto tensor_name = naming.name(role, layer);
    const auto shape = tensor_shape(role, config_);
    const auto it = unused.find(tensor_name);
    if (it == unused.end())
      throw ModelFileError({path_.string(), "tensor " + printable(tensor_name)}, "shape " + shape_text(shape),
                           "no such tensor");
    const FileTensor& tensor = *it->second;
    if (tensor.shape != shape)
      throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor_name), tensor.offset()},
                           "shape " + shape_text(shape), shape_text(tensor.shape));
    tensors_[static_cast<int>(role)].push_back(&tensor);
    unused.erase(it);
  });
  if (!unused.empty()) {
    const FileTensor& tensor = *unused.begin()->second;
    throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()},
                         "the tensors of architecture " + config_.architecture, "one that it does not have");
  }
}

const FileTensor& Checkpoint::tensor(TensorRole role, std::int64_t layer) const {
  const auto& of_role = tensors_[static_cast<int>(role)];
  REDLINE_CHECK(layer >= 0 && static_cast<std::size_t>(layer) < of_role.size(), "a tensor of this model");
  return *of_role[static_cast<std::size_t>(layer)];
}

MatrixSource Checkpoint::matrix(TensorRole role, std::int64_t layer) const {
  const FileTensor& source = tensor(role, layer);
  REDLINE_CHECK(source.shape.size() == 2, "a role that is a matrix");
  const auto* data = source.data.data();
  const auto stride = row_bytes(source.dtype, source.shape[1]);
  MatrixSource matrix{source.dtype, source.shape[0], source.shape[1], {}};
  if (interleaved_rope_ && (role == TensorRole::kQ || role == TensorRole::kK)) {
    matrix.row = [data, stride, d = config_.head_dim](std::int64_t row) {
      const auto head = row / d, i = row % d;
      return data + (head * d + (i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1)) * stride;
    };
  } else {
    matrix.row = [data, stride](std::int64_t row) { return data + row * stride; };
  }
  return matrix;
}

bool Checkpoint::has_tokenizer() const { return gguf_ || exists(path_ / "tokenizer.json"); }

TokenizerSpec Checkpoint::tokenizer_spec() const {
  return gguf_ ? gguf_tokenizer_spec(*gguf_) : load_tokenizer_json(path_);
}

}  // namespace redline
