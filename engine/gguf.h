// GGUF files (versions 2 and 3, little-endian): metadata and tensors.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/file_tensor.h"
#include "engine/mapped_file.h"

namespace redline {

enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
const char* name(GgufType type);

/// The format's number of a tensor type; nothing for a type that is none of GGUF's.
std::optional<std::uint32_t> gguf_type_id(DType dtype);

/// An open file. Everything was validated on opening: counts, string lengths, types, dimensions, alignment,
/// and that every tensor lies within the file and overlaps no other; no allocation exceeds a small multiple
/// of the file's size.
class GgufFile {
 public:
  /// Throws ModelFileError naming the key or tensor and its offset.
  explicit GgufFile(const std::filesystem::path& path);
  /// The same of bytes in memory, which outlive this; `name` is the file's in messages.
  GgufFile(std::string name, std::span<const std::byte> bytes);
  GgufFile(const GgufFile&) = delete;  // the tensors point at the mapping
  GgufFile& operator=(const GgufFile&) = delete;

  const MappedFile& file() const { return file_; }
  std::uint32_t version() const { return version_; }
  std::size_t num_keys() const { return values_.size(); }
  const std::vector<FileTensor>& tensors() const { return tensors_; }
  /// Null when there is none of that name.
  const FileTensor* find_tensor(std::string_view tensor_name) const;

  // A key's value, or nothing when the key is absent. Any integer type serves as an integer and any number
  // as a float. Each throws ModelFileError when the key holds another type, or a value out of range.
  std::optional<std::int64_t> find_int(std::string_view key) const;
  std::optional<double> find_float(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<std::vector<std::string>> find_strings(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> find_ints(std::string_view key) const;
  std::optional<std::vector<double>> find_floats(std::string_view key) const;

  /// Every key in the file's order, with its value's bytes as the format lays them out: type, then value.
  struct RawValue {
    std::string_view key;
    std::span<const std::byte> bytes;
  };
  const std::vector<RawValue>& raw_values() const { return raw_values_; }

  /// An error about `key`: where it is in the file (when it is), what was expected and found.
  [[noreturn]] void fail_key(std::string_view key, const std::string& expected,
                             const std::string& found) const;

 private:
  struct Value {
    GgufType type;
    GgufType element;     // of an array
    std::uint64_t count;  // of an array; else 1
    std::uint64_t key_offset;
    std::uint64_t offset;  // of the first element
  };
  class Reader;

  void read();
  void read_metadata(Reader& reader, std::uint64_t num_keys);
  void read_tensors(Reader& reader, std::uint64_t num_tensors);
  void check_no_overlap() const;
  /// The value of `key` when present: of a scalar type that `accepts`, or an array of one. Else fails.
  const Value* find(std::string_view key, bool array, bool (*accepts)(GgufType), const char* expected) const;
  std::int64_t int_at(std::string_view key, const Value& value, std::uint64_t index) const;
  double float_at(std::string_view key, const Value& value, std::uint64_t index) const;

  MappedFile file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::unordered_map<std::string_view, Value> values_;  // names lie in the mapping
  std::vector<RawValue> raw_values_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;
  std::vector<FileTensor> tensors_;
};

}  // namespace redline
