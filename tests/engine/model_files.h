// Writers of small model files, for tests: they follow the formats' documents, not our readers.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace redline {

/// A directory of its own for a test, removed at its end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = test->test_suite_name();
    name.append("_").append(test->name()).append("_").append(std::to_string(::getpid()));
    std::ranges::replace(name, '/', '_');  // which parameterised tests have
    path_ = std::filesystem::path(::testing::TempDir()) / ("redline_" + name);
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::filesystem::remove(file);  // file systems that flush a file written over are slow
    std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

/// The bytes of `value`, as it lies in memory.
template <class T>
std::string bytes_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

/// A tensor to write: `shape` outermost first, `data` in the type's own bytes.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::string data;
};

/// Builds a GGUF file and remembers where each of its fields lies.
class GgufWriter {
 public:
  struct Field {
    std::string what;
    std::size_t offset, size;
  };

  explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

  void add_u32(const std::string& key, std::uint32_t value) { add(key, 4, bytes_of(value)); }
  void add_f32(const std::string& key, float value) { add(key, 6, bytes_of(value)); }
  void add_bool(const std::string& key, bool value) { add(key, 7, bytes_of(value)); }
  void add_string(const std::string& key, const std::string& value) { add(key, 8, string_bytes(value)); }
  void add_strings(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes;
    for (const auto& value : values) bytes += string_bytes(value);
    add_array(key, 8, values.size(), bytes);
  }
  /// An array of `count` elements of the numbered type.
  void add_array(const std::string& key, std::uint32_t type, std::uint64_t count,
                 const std::string& elements) {
    add(key, 9, bytes_of(type) + bytes_of(count) + elements);
  }
  /// Any value of the numbered type.
  void add(const std::string& key, std::uint32_t type, const std::string& value) {
    keys_.push_back({key, bytes_of(type), value});
  }
  void add_tensor(const TensorToWrite& tensor) { tensors_.push_back(tensor); }
  void remove_tensors() { tensors_.clear(); }

  struct Key {
    std::string name, type, value;  // the latter two as the file holds them
  };
  std::vector<Key>& keys() { return keys_; }
  std::vector<TensorToWrite>& tensors() { return tensors_; }

  std::string finish(std::uint64_t alignment = 32) {
    fields_.clear();
    out_ = "GGUF";
    field("version", bytes_of(version_));
    field("tensor count", bytes_of(std::uint64_t{tensors_.size()}));
    field("key count", bytes_of(std::uint64_t{keys_.size()}));
    for (const auto& key : keys_) {
      field("key length", bytes_of(std::uint64_t{key.name.size()}));
      field("key", key.name);
      field("value type", key.type);
      if (key.type == bytes_of(std::uint32_t{9})) {
        field("element type", key.value.substr(0, 4));
        field("array length", key.value.substr(4, 8));
        field("array", key.value.substr(12));
      } else if (key.type == bytes_of(std::uint32_t{8})) {
        field("string length", key.value.substr(0, 8));
        field("string", key.value.substr(8));
      } else {
        field("value", key.value);
      }
    }
    std::string data;
    for (const auto& tensor : tensors_) {
      data.resize((data.size() + alignment - 1) / alignment * alignment);
      field("name length", bytes_of(std::uint64_t{tensor.name.size()}));
      field("name", tensor.name);
      field("dimensions", bytes_of(static_cast<std::uint32_t>(tensor.shape.size())));
      for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim)
        field("dimension", bytes_of(*dim));
      field("tensor type", bytes_of(kTypeNumbers[static_cast<int>(tensor.dtype)]));
      field("offset", bytes_of(std::uint64_t{data.size()}));
      data += tensor.data;
    }
    out_.resize((out_.size() + alignment - 1) / alignment * alignment);
    return out_ + data;
  }
  /// The fields of the file that finish() made.
  const std::vector<Field>& fields() const { return fields_; }

 private:
  static constexpr std::uint32_t kTypeNumbers[kNumDTypes] = {0,  1,  30, 8,  2,  3,  6,  7,
                                                             10, 11, 12, 13, 14, 20, 23, 39};

  static std::string string_bytes(const std::string& text) {
    return bytes_of(std::uint64_t{text.size()}) + text;
  }
  void field(const std::string& what, const std::string& bytes) {
    fields_.push_back({what, out_.size(), bytes.size()});
    out_ += bytes;
  }

  std::uint32_t version_;
  std::vector<Key> keys_;
  std::vector<TensorToWrite> tensors_;
  std::string out_;
  std::vector<Field> fields_;
};

/// A safetensors file with this header and data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return bytes_of(std::uint64_t{header.size()}) + header + data;
}

/// A safetensors file of these tensors (f32, f16, bf16).
inline std::string safetensors_bytes(const std::vector<TensorToWrite>& tensors) {
  std::ostringstream header;
  std::string data;
  header << '{';
  for (const auto& tensor : tensors) {
    const char* type = tensor.dtype == DType::kF32 ? "F32" : tensor.dtype == DType::kF16 ? "F16" : "BF16";
    header << (&tensor == tensors.data() ? "" : ",") << '"' << tensor.name << R"(":{"dtype":")" << type
           << R"(","shape":[)";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) header << (i > 0 ? "," : "") << tensor.shape[i];
    header << R"(],"data_offsets":[)" << data.size() << ',' << data.size() + tensor.data.size() << "]}";
    data += tensor.data;
  }
  header << '}';
  return safetensors_bytes(header.str(), data);
}

}  // namespace redline
