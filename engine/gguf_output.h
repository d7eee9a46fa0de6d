// Writes GGUF files (version 3). Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace redline {

/// Keys and tensors, in the order in which they are added.
class GgufOutput {
 public:
  void add_u32(std::string_view key, std::int64_t value);
  void add_f32(std::string_view key, double value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_ints(std::string_view key, std::span<const std::int32_t> values);
  /// An array of u8.
  void add_bytes(std::string_view key, std::string_view values);
  void add_floats(std::string_view key, std::span<const float> values);
  /// `value` as the format lays it out: type, then value (GgufFile::raw_values).
  void add_raw(std::string_view key, std::span<const std::byte> value);

  /// Writes the tensor's bytes, exactly as many as its type and shape say, by calling `put` on pieces.
  using Put = std::function<void(std::span<const std::byte>)>;
  using WriteTensor = std::function<void(const Put& put)>;
  /// Row-major shape, outermost first. `write` is called once, when its turn comes.
  void add_tensor(std::string name, DType dtype, std::vector<std::int64_t> shape, WriteTensor write);

  /// Bytes of the whole file.
  std::int64_t file_bytes() const;
  /// Writes to a file beside `path` that takes its name when it is whole; on failure nothing is left and what
  /// was at `path` stays. Throws std::runtime_error naming the file and the reason.
  void write(
      const std::filesystem::path& path,
      const std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>& progress = {}) const;

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    WriteTensor write;
    std::int64_t bytes;
  };
  void add_key(std::string_view key, std::uint32_t type);
  std::string header() const;

  std::string keys_;
  std::uint64_t num_keys_ = 0;
  std::vector<Tensor> tensors_;
};

}  // namespace redline
