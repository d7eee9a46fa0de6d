#include "engine/gguf_output.h"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

#include "engine/gguf.h"
#include "kernels/check.h"

namespace redline {
namespace {

static_assert(std::endian::native == std::endian::little, "values are written as they lie");

constexpr std::int64_t kAlignment = 32;  // the format's default

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

std::int64_t padding(std::int64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

std::uint32_t code(GgufType type) { return static_cast<std::uint32_t>(type); }

// A file under another name, which it loses by commit() or is removed.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path)
      : path_(path), temporary_(path.string() + ".part" + std::to_string(::getpid())) {
    file_.reset(std::fopen(temporary_.c_str(), "wbx"));
    if (!file_) fail();
  }
  ~NewFile() {
    if (!file_) return;
    file_.reset();
    std::remove(temporary_.c_str());
  }
  void put(const void* data, std::size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_.get()) != bytes) fail();
  }
  void commit() {
    if (std::fflush(file_.get()) != 0 || ::fsync(::fileno(file_.get())) != 0 ||
        std::rename(temporary_.c_str(), path_.c_str()) != 0)
      fail();
    file_.reset();
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error(path_.string() + ": " + std::strerror(errno)); }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::string temporary_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace

void GgufOutput::add_key(std::string_view key, std::uint32_t type) {
  ++num_keys_;
  append_string(keys_, key);
  append(keys_, type);
}

void GgufOutput::add_u32(std::string_view key, std::int64_t value) {
  REDLINE_CHECK(value >= 0 && value <= UINT32_MAX, "a value that fits 32 bits");
  add_key(key, code(GgufType::kU32));
  append(keys_, static_cast<std::uint32_t>(value));
}
void GgufOutput::add_f32(std::string_view key, double value) {
  add_key(key, code(GgufType::kF32));
  append(keys_, static_cast<float>(value));
}
void GgufOutput::add_bool(std::string_view key, bool value) {
  add_key(key, code(GgufType::kBool));
  append(keys_, static_cast<std::uint8_t>(value));
}
void GgufOutput::add_string(std::string_view key, std::string_view value) {
  add_key(key, code(GgufType::kString));
  append_string(keys_, value);
}
void GgufOutput::add_strings(std::string_view key, std::span<const std::string> values) {
  add_key(key, code(GgufType::kArray));
  append(keys_, code(GgufType::kString));
  append(keys_, static_cast<std::uint64_t>(values.size()));
  for (const std::string& value : values) append_string(keys_, value);
}
void GgufOutput::add_ints(std::string_view key, std::span<const std::int32_t> values) {
  add_key(key, code(GgufType::kArray));
  append(keys_, code(GgufType::kI32));
  append(keys_, static_cast<std::uint64_t>(values.size()));
  for (const std::int32_t value : values) append(keys_, value);
}
void GgufOutput::add_bytes(std::string_view key, std::string_view values) {
  add_key(key, code(GgufType::kArray));
  append(keys_, code(GgufType::kU8));
  append_string(keys_, values);
}
void GgufOutput::add_floats(std::string_view key, std::span<const float> values) {
  add_key(key, code(GgufType::kArray));
  append(keys_, code(GgufType::kF32));
  append(keys_, static_cast<std::uint64_t>(values.size()));
  for (const float value : values) append(keys_, value);
}
void GgufOutput::add_raw(std::string_view key, std::span<const std::byte> value) {
  ++num_keys_;
  append_string(keys_, key);
  keys_.append(reinterpret_cast<const char*>(value.data()), value.size());
}

void GgufOutput::add_tensor(std::string tensor_name, DType dtype, std::vector<std::int64_t> shape,
                            WriteTensor write) {
  REDLINE_CHECK(gguf_type_id(dtype).has_value(), "a type of GGUF's");
  std::int64_t elements = 1;
  for (const auto dim : shape) elements *= dim;
  const std::int64_t bytes = row_bytes(dtype, elements);
  tensors_.push_back({std::move(tensor_name), dtype, std::move(shape), std::move(write), bytes});
}

std::string GgufOutput::header() const {
  std::string out = "GGUF";
  append(out, std::uint32_t{3});
  append(out, static_cast<std::uint64_t>(tensors_.size()));
  append(out, num_keys_);
  out += keys_;
  std::int64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(out, tensor.name);
    append(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) append(out, *dim);
    append(out, *gguf_type_id(tensor.dtype));
    append(out, offset);
    offset += tensor.bytes + padding(tensor.bytes);
  }
  out.append(static_cast<std::size_t>(padding(static_cast<std::int64_t>(out.size()))), '\0');
  return out;
}

std::int64_t GgufOutput::file_bytes() const {
  auto bytes = static_cast<std::int64_t>(header().size());
  for (const Tensor& tensor : tensors_) bytes += tensor.bytes + padding(tensor.bytes);
  return bytes;
}

void GgufOutput::write(const std::filesystem::path& path,
                       const std::function<void(std::int64_t, std::int64_t)>& progress) const {
  const std::int64_t total = file_bytes();
  NewFile file(path);
  const std::string head = header();
  file.put(head.data(), head.size());
  auto done = static_cast<std::int64_t>(head.size());
  for (const Tensor& tensor : tensors_) {
    std::int64_t left = tensor.bytes;
    tensor.write([&](std::span<const std::byte> piece) {
      left -= static_cast<std::int64_t>(piece.size());
      REDLINE_CHECK(left >= 0, "no more bytes than the tensor has");
      file.put(piece.data(), piece.size());
    });
    REDLINE_CHECK(left == 0, "all of the tensor's bytes");
    constexpr char kZeros[kAlignment] = {};
    file.put(kZeros, static_cast<std::size_t>(padding(tensor.bytes)));
    done += tensor.bytes + padding(tensor.bytes);
    if (progress) progress(done, total);
  }
  file.commit();
}

}  // namespace redline
