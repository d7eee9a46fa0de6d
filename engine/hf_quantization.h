// What config.json's quantization_config says, and the model's tensors out of what such a checkpoint stores.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/coded_matrix.h"
#include "engine/file_tensor.h"
#include "engine/json_file.h"
#include "engine/safetensors.h"

namespace redline {

/// FP8 E4M3 ("fp8", "fbgemm_fp8", "compressed-tensors" of floats), AWQ ("gemm") and GPTQ, both of 4 bits; or
/// none. Activations stay unquantised whatever the checkpoint proposes, and so does the cache.
class HfQuantization {
 public:
  /// Throws ModelFileError naming the key of a method or an option that is not supported.
  explicit HfQuantization(const JsonFile& config);

  /// The tensors that `stored`, which outlives them, holds: matrices under their own names ("...weight"),
  /// whatever they are made from. Throws ModelFileError naming a tensor without its scales or zeros, or of a
  /// type that quantization_config does not explain.
  std::vector<FileTensor> read(const std::vector<const SafetensorsTensor*>& stored);

 private:
  enum class Method : std::uint8_t { kNone, kFp8, kAwq, kGptq };
  class Parts;

  void read_method(const JsonFile& json);
  void read_compressed(const JsonFile& json);

  std::string file_;
  Method method_ = Method::kNone;
  std::int64_t block_rows_ = 0, block_cols_ = 0;  // kFp8, by blocks
  std::int64_t group_size_ = 0;                   // kAwq, kGptq; 0: all of K
  int zero_offset_ = 0;                           // kGptq
  std::vector<std::unique_ptr<CodedMatrix>> matrices_;
};

}  // namespace redline
