// Safetensors files. Format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/file_tensor.h"
#include "engine/mapped_file.h"

namespace redline {

/// The types that weights, and the parts of quantised ones, are stored in.
enum class SafetensorsType : std::uint8_t { kF32, kF16, kBF16, kF8E4M3, kI32 };

struct SafetensorsTensor : StoredTensor {
  SafetensorsType type = SafetensorsType::kF32;
};

/// "F32", "F8_E4M3", ...: the format's own name.
const char* name(SafetensorsType type);

/// An open file of tensors of these types. Everything was validated on opening: the header's length and
/// keys, every tensor's type and shape, and that the tensors fill the data without overlap or gap.
class SafetensorsFile {
 public:
  /// Throws ModelFileError naming the tensor.
  explicit SafetensorsFile(const std::filesystem::path& path);
  /// The same of bytes in memory, which outlive this; `name` is the file's in messages.
  SafetensorsFile(std::string name, std::span<const std::byte> bytes);
  SafetensorsFile(const SafetensorsFile&) = delete;  // the tensors point at the mapping
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const MappedFile& file() const { return file_; }
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

 private:
  void read();

  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;  // in the file's order
};

/// The model in `directory`: model.safetensors, or the shards that model.safetensors.index.json names, whose
/// map must agree with what they hold. Throws ModelFileError.
std::vector<std::unique_ptr<SafetensorsFile>> open_safetensors(const std::filesystem::path& directory);

}  // namespace redline
