// A model's files, opened: configuration, tokenizer, and every tensor by its role.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/file_tensor.h"
#include "engine/gguf.h"
#include "engine/hf_quantization.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "engine/tensor_role.h"
#include "engine/tokenizer/tokenizer_spec.h"
#include "kernels/ops.h"

namespace redline {

struct TensorNames;

/// Open files of one model. Every tensor that the configuration asks for is there, with its shape, and no
/// other: a tensor that the engine does not know would silently change the model.
class Checkpoint {
 public:
  /// Opens what find_model (engine/model_reference.h) finds: a GGUF file, or a directory with config.json and
  /// safetensors. Throws ModelFileError.
  explicit Checkpoint(const std::string& reference);
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  const ModelConfig& config() const { return config_; }
  /// The GGUF file, or the directory.
  const std::filesystem::path& path() const { return path_; }
  /// The GGUF file; null for a directory.
  const GgufFile* gguf() const { return gguf_.get(); }
  /// The tensor of `role` in `layer` (0 where the role has no layers). A tied model has no kHead.
  const FileTensor& tensor(TensorRole role, std::int64_t layer = 0) const;
  /// A matrix to pack, rows in the order that the engine computes with: rotary pairs (i, i + d / 2), which
  /// GGUF files of some architectures hold interleaved. Valid as long as the checkpoint. Requires a tensor
  /// without a code: others are decoded (FileTensor::code).
  MatrixSource matrix(TensorRole role, std::int64_t layer = 0) const;
  /// False for a directory without tokenizer.json and a GGUF that says "no_vocab": its model takes and gives
  /// token ids only.
  bool has_tokenizer() const;
  /// The model's tokenizer and chat template. Throws ModelFileError.
  TokenizerSpec tokenizer_spec() const;

 private:
  void open_gguf();
  void open_directory();
  using TensorsByName = std::unordered_map<std::string_view, const FileTensor*>;
  void split(TensorsByName& tensors, const std::string& fused_name, std::int64_t layer,
             std::span<const TensorRole> roles, const TensorNames& names);
  const FileTensor& take(TensorsByName& tensors, const std::string& tensor_name,
                         const std::vector<std::int64_t>& shape) const;
  void bind(const std::vector<const FileTensor*>& tensors, const TensorNames& names);

  std::filesystem::path path_;
  std::unique_ptr<GgufFile> gguf_;                             // this,
  std::vector<std::unique_ptr<SafetensorsFile>> safetensors_;  // or these,
  std::unique_ptr<HfQuantization> quantization_;               // and what their tensors
  std::vector<FileTensor> hf_tensors_;                         // make
  ModelConfig config_;
  bool interleaved_rope_ = false;
  std::deque<FileTensor> split_tensors_;  // parts of fused ones
  // [role][layer]; a role without layers has one.
  std::vector<const FileTensor*> tensors_[kNumTensorRoles];
};

}  // namespace redline
