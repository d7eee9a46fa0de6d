#include "engine/checkpoint.h"

#include <string_view>
#include <unordered_map>

#include "engine/gguf_model.h"
#include "engine/model_file_error.h"

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
     "attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_norm.weight", "ffn_gate.weight",
     "ffn_up.weight", "ffn_down.weight"}};

Checkpoint::Checkpoint(const std::string& reference) {
  gguf_ = std::make_unique<GgufFile>(reference);
  config_ = gguf_model_config(*gguf_);
  interleaved_rope_ = true;
  bind(reference, gguf_->tensors(), kGgufNaming);
}

Checkpoint::~Checkpoint() = default;

void Checkpoint::bind(const std::string& file, std::span<const FileTensor> tensors, const Naming& naming) {
  std::unordered_map<std::string_view, const FileTensor*> unused;
  for (const auto& tensor : tensors) unused.emplace(tensor.name, &tensor);
  for_each_tensor(config_, [&](TensorRole role, std::int64_t layer) {
    const auto tensor_name = naming.name(role, layer);
    const auto shape = tensor_shape(role, config_);
    const auto it = unused.find(tensor_name);
    if (it == unused.end())
      throw ModelFileError({file, "tensor " + printable(tensor_name)}, "shape " + shape_text(shape),
                           "no such tensor");
    const FileTensor& tensor = *it->second;
    if (tensor.shape != shape)
      throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor_name), tensor.offset()},
                           "shape " + shape_text(shape), shape_text(tensor.shape));
    tensors_[static_cast<int>(role)].push_back(&tensor);
    unused.erase(it);
  });
  unused.erase("rope_freqs.weight");
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

TokenizerSpec Checkpoint::tokenizer_spec() const { return gguf_tokenizer_spec(*gguf_); }

}  // namespace redline
