#include "engine/checkpoint.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "engine/architecture.h"
#include "engine/gguf_model.h"
#include "engine/hf_config.h"
#include "engine/model_file_error.h"
#include "engine/model_reference.h"
#include "engine/tensor_names.h"
#include "engine/tokenizer/tokenizer_gguf.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace redline {
namespace {

bool is_zero(const FileTensor& tensor) {
  return std::ranges::all_of(tensor.data, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

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
  const bool longrope = config_.rope_scaling.type == RopeType::kLongRope;
  const auto is_configuration = [&](const std::string& name) {
    return name == "rope_freqs.weight" || (longrope && name.starts_with("rope_factors_"));
  };
  for (const FileTensor& tensor : gguf_->tensors())
    if (!is_configuration(tensor.name)) tensors.push_back(&tensor);
  bind(tensors, kGgufNames);
}

void Checkpoint::open_directory() {
  config_ = read_hf_config(path_ / "config.json");
  safetensors_ = open_safetensors(path_);
  std::vector<const SafetensorsTensor*> stored;
  // Old checkpoints hold what follows from the configuration: rotary frequencies, a tied head's copy.
  const auto follows = [&](const std::string& name) {
    return name.ends_with(".rotary_emb.inv_freq") || (config_.tied_embeddings && name == "lm_head.weight");
  };
  for (const auto& file : safetensors_)
    for (const SafetensorsTensor& tensor : file->tensors())
      if (!follows(tensor.name)) stored.push_back(&tensor);
  quantization_ = std::make_unique<HfQuantization>(JsonFile(path_ / "config.json"));
  hf_tensors_ = quantization_->read(stored);
  std::vector<const FileTensor*> tensors;
  for (const FileTensor& tensor : hf_tensors_) tensors.push_back(&tensor);
  bind(tensors, kHfNames);
}

// Cuts the tensor that holds the rows of `roles`, one after the other, into tensors of their own names.
void Checkpoint::split(TensorsByName& tensors, const std::string& fused_name, std::int64_t layer,
                       std::span<const TensorRole> roles, const TensorNames& names) {
  std::int64_t rows = 0;
  for (const TensorRole role : roles) rows += tensor_shape(role, config_)[0];
  const FileTensor fused = take(tensors, fused_name, {rows, config_.hidden_size});
  std::int64_t row = 0;
  for (const TensorRole role : roles) {
    FileTensor& part = split_tensors_.emplace_back(fused);
    part.name = names.name(role, layer, config_.norm_placement);
    part.shape = tensor_shape(role, config_);
    part.first_row = row;
    if (!fused.code) {
      const std::int64_t bytes = row_bytes(part.dtype, part.shape[1]);
      part.data = fused.data.subspan(static_cast<std::size_t>(row * bytes),
                                     static_cast<std::size_t>(part.shape[0] * bytes));
    }
    row += part.shape[0];
    tensors.emplace(part.name, &part);
  }
}

// Removes the tensor of that name and shape.
const FileTensor& Checkpoint::take(TensorsByName& tensors, const std::string& tensor_name,
                                   const std::vector<std::int64_t>& shape) const {
  const auto it = tensors.find(tensor_name);
  if (it == tensors.end())
    throw ModelFileError({path_.string(), "tensor " + printable(tensor_name)}, "shape " + shape_text(shape),
                         "no such tensor");
  const FileTensor& tensor = *it->second;
  if (tensor.shape != shape)
    throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor_name), tensor.offset()},
                         "shape " + shape_text(shape), shape_text(tensor.shape));
  tensors.erase(it);
  return tensor;
}

void Checkpoint::bind(const std::vector<const FileTensor*>& tensors, const TensorNames& names) {
  TensorsByName unused;
  for (const FileTensor* tensor : tensors) unused.emplace(tensor->name, tensor);
  if (find_hf_architecture(config_.architecture)->fused_projections) {
    constexpr TensorRole kQkv[] = {TensorRole::kQ, TensorRole::kK, TensorRole::kV};
    constexpr TensorRole kGateUp[] = {TensorRole::kGate, TensorRole::kUp};
    for (std::int64_t layer = 0; layer < config_.num_layers; ++layer) {
      split(unused, names.in_layer(layer, names.fused_qkv), layer, kQkv, names);
      split(unused, names.in_layer(layer, names.fused_gate_up), layer, kGateUp, names);
    }
  }
  for_each_tensor(config_, [&](TensorRole role, std::int64_t layer) {
    tensors_[static_cast<int>(role)].push_back(
        &take(unused, names.name(role, layer, config_.norm_placement), tensor_shape(role, config_)));
  });
  for (const auto& [tensor_name, unused_tensor] : unused) {
    const FileTensor& tensor = *unused_tensor;
    if (tensor_name.ends_with(".bias") && is_zero(tensor)) continue;  // which GPTQ's writers add
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
  REDLINE_CHECK(source.shape.size() == 2 && !source.code, "a matrix in its type's rows");
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

bool Checkpoint::has_tokenizer() const {
  return gguf_ ? gguf_->find_string("tokenizer.ggml.model") != "no_vocab"
               : exists(path_ / "tokenizer.json") || exists(path_ / "tokenizer.model");
}

TokenizerSpec Checkpoint::tokenizer_spec() const {
  return gguf_ ? gguf_tokenizer_spec(*gguf_) : load_tokenizer(path_);
}

}  // namespace redline
