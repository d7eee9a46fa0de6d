#include "engine/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/model_file_error.h"

namespace redline {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place");

struct GgufTypeTraits {
  const char* name;
  std::uint64_t bytes;  // 0: not of one size
};
constexpr GgufTypeTraits kGgufTypes[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                                         {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                                         {"u64", 8}, {"i64", 8}, {"f64", 8}};
constexpr std::uint32_t kNumGgufTypes = std::size(kGgufTypes);
constexpr std::uint64_t bytes_of(GgufType type) { return kGgufTypes[static_cast<std::uint32_t>(type)].bytes; }
constexpr std::uint64_t kMinStringBytes = 8;  // its length

bool is_integer(GgufType type) {
  return type <= GgufType::kI32 || type == GgufType::kU64 || type == GgufType::kI64;
}
bool is_number(GgufType type) { return is_integer(type) || type == GgufType::kF32 || type == GgufType::kF64; }
bool is_bool(GgufType type) { return type == GgufType::kBool; }
bool is_string(GgufType type) { return type == GgufType::kString; }

// Tensor types of the format, by number: what is not among ours is refused by its name.
constexpr const char* kTensorTypes[] = {
    "f32",   "f16",        "q4_0",       "q4_1",       "q4_2",     "q4_3",     "q5_0",
    "q5_1",  "q8_0",       "q8_1",       "q2_k",       "q3_k",     "q4_k",     "q5_k",
    "q6_k",  "q8_k",       "iq2_xxs",    "iq2_xs",     "iq3_xxs",  "iq1_s",    "iq4_nl",
    "iq3_s", "iq2_s",      "iq4_xs",     "i8",         "i16",      "i32",      "i64",
    "f64",   "iq1_m",      "bf16",       "q4_0_4_4",   "q4_0_4_8", "q4_0_8_8", "tq1_0",
    "tq2_0", "iq4_nl_4_4", "iq4_nl_4_8", "iq4_nl_8_8", "mxfp4",    "nvfp4"};

// Those among the format's that we read.
std::string known_tensor_types() {
  std::string known;
  for (const char* type : kTensorTypes)
    if (dtype_from_name(type)) known += (known.empty() ? "" : ", ") + std::string(type);
  return known;
}

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

std::string type_text(GgufType type, bool array) {
  return array ? std::string("array of ") + name(type) : std::string(name(type));
}

}  // namespace

const char* name(GgufType type) { return kGgufTypes[static_cast<std::uint32_t>(type)].name; }

// Reads front to back; every read is checked against what is left of the file.
class GgufFile::Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file) {}

  std::uint64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return file_.bytes().size() - offset_; }
  /// What is being read, for messages: a "key" by its name, or by its number where that is yet to be read.
  void set_item(const char* kind, std::string_view name) { item_ = {kind, name, kNoNumber}; }
  void set_item(const char* kind, std::uint64_t number = kNoNumber) { item_ = {kind, {}, number}; }

  const std::byte* take(std::uint64_t bytes) {
    if (bytes > remaining())
      fail(std::to_string(bytes) + " bytes", std::to_string(remaining()) + " before the end of the file");
    const std::byte* start = file_.bytes().data() + offset_;
    offset_ += bytes;
    return start;
  }
  template <class T>
  T read() {
    return load<T>(take(sizeof(T)));
  }
  std::string_view read_string() {
    const auto length = read<std::uint64_t>();
    return {reinterpret_cast<const char*>(take(length)), length};
  }
  GgufType read_type() {
    const auto type = read<std::uint32_t>();
    if (type >= kNumGgufTypes) fail_back(4, "a value type below 13", std::to_string(type));
    return static_cast<GgufType>(type);
  }
  /// A count of things of at least `min_bytes` each, which must fit in the rest of the file.
  std::uint64_t read_count(std::uint64_t min_bytes) {
    const auto count = read<std::uint64_t>();
    if (count > remaining() / min_bytes)
      fail_back(8, "a count that the rest of the file can hold (" + std::to_string(remaining()) + " bytes)",
                std::to_string(count));
    return count;
  }
  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw ModelFileError({file_.path(), item_.text(), offset_}, expected, found);
  }
  /// An error about the `bytes` read last.
  [[noreturn]] void fail_back(std::uint64_t bytes, const std::string& expected,
                              const std::string& found) const {
    throw ModelFileError({file_.path(), item_.text(), offset_ - bytes}, expected, found);
  }

 private:
  static constexpr std::uint64_t kNoNumber = ~std::uint64_t{0};
  struct Item {
    const char* kind;
    std::optional<std::string_view> name;
    std::uint64_t number;

    std::string text() const {
      if (name) return kind + (" " + printable(*name));
      return number == kNoNumber ? kind : kind + (" " + std::to_string(number));
    }
  };

  const MappedFile& file_;
  std::uint64_t offset_ = 0;
  Item item_ = {"header", {}, kNoNumber};
};

std::optional<std::uint32_t> gguf_type_id(DType dtype) {
  const auto* found = std::ranges::find(kTensorTypes, std::string_view(name(dtype)));
  if (found == std::end(kTensorTypes)) return std::nullopt;
  return static_cast<std::uint32_t>(found - std::begin(kTensorTypes));
}

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) { read(); }

GgufFile::GgufFile(std::string name, std::span<const std::byte> bytes) : file_(std::move(name), bytes) {
  read();
}

void GgufFile::read() {
  Reader reader(file_);
  if (std::memcmp(reader.take(4), "GGUF", 4) != 0) reader.fail_back(4, "the magic GGUF", "other bytes");
  version_ = reader.read<std::uint32_t>();
  if (version_ != 2 && version_ != 3) reader.fail_back(4, "version 2 or 3", std::to_string(version_));
  constexpr std::uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;
  constexpr std::uint64_t kMinKeyBytes = 8 + 4 + 1;
  reader.set_item("tensor count");
  const auto num_tensors = reader.read_count(kMinTensorBytes);
  reader.set_item("key count");
  const auto num_keys = reader.read_count(kMinKeyBytes);
  read_metadata(reader, num_keys);
  read_tensors(reader, num_tensors);
  check_no_overlap();
}

void GgufFile::read_metadata(Reader& reader, std::uint64_t num_keys) {
  values_.reserve(num_keys);
  for (std::uint64_t i = 0; i < num_keys; ++i) {
    reader.set_item("key", i);
    const auto key_offset = reader.offset();
    const auto key = reader.read_string();
    reader.set_item("key", key);
    const auto value_offset = reader.offset();
    Value value{reader.read_type(), GgufType::kArray, 1, key_offset, 0};
    if (value.type == GgufType::kArray) {
      value.element = reader.read_type();
      if (value.element == GgufType::kArray) reader.fail_back(4, "an array of scalars", "an array of arrays");
      value.count =
          reader.read_count(value.element == GgufType::kString ? kMinStringBytes : bytes_of(value.element));
    }
    value.offset = reader.offset();
    const auto element = value.type == GgufType::kArray ? value.element : value.type;
    if (element == GgufType::kString) {
      for (std::uint64_t j = 0; j < value.count; ++j) reader.read_string();
    } else {
      const auto* data = reader.take(value.count * bytes_of(element));
      if (element == GgufType::kBool)
        for (std::uint64_t j = 0; j < value.count; ++j)
          if (const auto byte = std::to_integer<unsigned>(data[j]); byte > 1)
            reader.fail_back(value.count - j, "a bool, 0 or 1", std::to_string(byte));
    }
    if (!values_.emplace(key, value).second)
      throw ModelFileError({file_.path(), "key " + printable(key), key_offset}, "each key once", "it twice");
    raw_values_.push_back({key, file_.bytes().subspan(value_offset, reader.offset() - value_offset)});
  }
  if (const auto alignment = find_int("general.alignment")) {
    if (*alignment < 1 || *alignment > 1 << 30 ||
        !std::has_single_bit(static_cast<std::uint64_t>(*alignment)))
      fail_key("general.alignment", "a power of two up to 2^30", std::to_string(*alignment));
    alignment_ = static_cast<std::uint64_t>(*alignment);
  }
}

void GgufFile::read_tensors(Reader& reader, std::uint64_t num_tensors) {
  struct Placement {
    std::uint64_t field_offset, relative, bytes;
  };
  std::vector<Placement> placements;
  placements.reserve(num_tensors);
  tensors_.reserve(num_tensors);
  tensor_index_.reserve(num_tensors);
  for (std::uint64_t i = 0; i < num_tensors; ++i) {
    reader.set_item("tensor", i);
    const auto tensor_name = reader.read_string();
    reader.set_item("tensor", tensor_name);
    if (!tensor_index_.emplace(tensor_name, i).second)
      reader.fail_back(tensor_name.size(), "each tensor once", "it twice");
    FileTensor tensor;
    tensor.name = tensor_name;
    tensor.file = &file_;
    const auto num_dims = reader.read<std::uint32_t>();
    if (num_dims < 1 || num_dims > 4) reader.fail_back(4, "1 to 4 dimensions", std::to_string(num_dims));
    std::uint64_t elements = 1;
    for (std::uint32_t d = 0; d < num_dims; ++d) {
      const auto dim = reader.read<std::uint64_t>();
      // No type takes less than a quarter of a byte an element, so this bounds the product by the file's
      // size.
      if (dim < 1 || dim > 4 * file_.bytes().size() / elements)
        reader.fail_back(8, "a dimension of at least 1 within the file's size", std::to_string(dim));
      elements *= dim;
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(dim));
    }
    const auto type = reader.read<std::uint32_t>();
    const auto dtype =
        type < std::size(kTensorTypes) ? dtype_from_name(kTensorTypes[type]) : std::optional<DType>();
    if (!dtype)
      reader.fail_back(4, "a type among " + known_tensor_types(),
                       type < std::size(kTensorTypes) ? kTensorTypes[type] : "type " + std::to_string(type));
    tensor.dtype = *dtype;
    if (tensor.shape.back() % traits(*dtype).block_elements != 0)
      reader.fail_back(4,
                       "a row length that is a multiple of " + std::to_string(traits(*dtype).block_elements) +
                           " for type " + name(*dtype),
                       std::to_string(tensor.shape.back()));
    const auto bytes = static_cast<std::uint64_t>(row_bytes(*dtype, static_cast<std::int64_t>(elements)));
    const auto relative = reader.read<std::uint64_t>();
    if (relative % alignment_ != 0)
      reader.fail_back(8, "an offset that is a multiple of " + std::to_string(alignment_),
                       std::to_string(relative));
    placements.push_back({reader.offset() - 8, relative, bytes});
    tensors_.push_back(std::move(tensor));
  }
  const auto data_start = (reader.offset() + alignment_ - 1) / alignment_ * alignment_;
  const auto size = file_.bytes().size();
  const auto available = data_start <= size ? size - data_start : 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const auto& [field_offset, relative, bytes] = placements[i];
    if (relative > available || bytes > available - relative)
      throw ModelFileError(
          {file_.path(), "tensor " + printable(tensors_[i].name), field_offset},
          std::to_string(bytes) + " bytes at " + std::to_string(relative) + " of the data section",
          "a data section of " + std::to_string(available) + " bytes");
    tensors_[i].data = file_.bytes().subspan(data_start + relative, bytes);
  }
}

void GgufFile::check_no_overlap() const {
  std::vector<const FileTensor*> by_offset;
  by_offset.reserve(tensors_.size());
  for (const auto& tensor : tensors_) by_offset.push_back(&tensor);
  std::ranges::sort(by_offset, {}, &FileTensor::offset);
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const auto end = by_offset[i - 1]->offset() + by_offset[i - 1]->data.size();
    if (by_offset[i]->offset() < end)
      throw ModelFileError(
          {file_.path(), "tensor " + printable(by_offset[i]->name), by_offset[i]->offset()},
          "data after the end of " + printable(by_offset[i - 1]->name) + " at " + std::to_string(end),
          "overlapping data");
  }
}

const FileTensor* GgufFile::find_tensor(std::string_view tensor_name) const {
  const auto it = tensor_index_.find(tensor_name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

void GgufFile::fail_key(std::string_view key, const std::string& expected, const std::string& found) const {
  const auto it = values_.find(key);
  std::optional<std::uint64_t> offset;
  if (it != values_.end()) offset = it->second.key_offset;
  throw ModelFileError({file_.path(), "key " + printable(key), offset}, expected, found);
}

const GgufFile::Value* GgufFile::find(std::string_view key, bool array, bool (*accepts)(GgufType),
                                      const char* expected) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return nullptr;
  const Value& value = it->second;
  const bool is_array = value.type == GgufType::kArray;
  const auto type = is_array ? value.element : value.type;
  if (is_array != array || !accepts(type)) fail_key(key, expected, type_text(type, is_array));
  return &value;
}

std::int64_t GgufFile::int_at(std::string_view key, const Value& value, std::uint64_t index) const {
  const auto type = value.type == GgufType::kArray ? value.element : value.type;
  const auto* p = file_.bytes().data() + value.offset + index * bytes_of(type);
  switch (type) {
    case GgufType::kU8:
      return load<std::uint8_t>(p);
    case GgufType::kI8:
      return load<std::int8_t>(p);
    case GgufType::kU16:
      return load<std::uint16_t>(p);
    case GgufType::kI16:
      return load<std::int16_t>(p);
    case GgufType::kU32:
      return load<std::uint32_t>(p);
    case GgufType::kI32:
      return load<std::int32_t>(p);
    case GgufType::kI64:
      return load<std::int64_t>(p);
    default:
      break;
  }
  const auto large = load<std::uint64_t>(p);
  if (large > std::numeric_limits<std::int64_t>::max())
    fail_key(key, "an integer below 2^63", std::to_string(large));
  return static_cast<std::int64_t>(large);
}

std::optional<std::int64_t> GgufFile::find_int(std::string_view key) const {
  const Value* value = find(key, false, is_integer, "an integer");
  return value ? std::optional(int_at(key, *value, 0)) : std::nullopt;
}

std::optional<std::vector<std::int64_t>> GgufFile::find_ints(std::string_view key) const {
  const Value* value = find(key, true, is_integer, "array of integers");
  if (!value) return std::nullopt;
  std::vector<std::int64_t> ints(value->count);
  for (std::uint64_t i = 0; i < value->count; ++i) ints[i] = int_at(key, *value, i);
  return ints;
}

double GgufFile::float_at(std::string_view key, const Value& value, std::uint64_t index) const {
  const auto type = value.type == GgufType::kArray ? value.element : value.type;
  const auto* p = file_.bytes().data() + value.offset + index * bytes_of(type);
  if (type == GgufType::kF32) return load<float>(p);
  if (type == GgufType::kF64) return load<double>(p);
  return static_cast<double>(int_at(key, value, index));
}

std::optional<double> GgufFile::find_float(std::string_view key) const {
  const Value* value = find(key, false, is_number, "a number");
  return value ? std::optional(float_at(key, *value, 0)) : std::nullopt;
}

std::optional<std::vector<double>> GgufFile::find_floats(std::string_view key) const {
  const Value* value = find(key, true, is_number, "array of numbers");
  if (!value) return std::nullopt;
  std::vector<double> floats(value->count);
  for (std::uint64_t i = 0; i < value->count; ++i) floats[i] = float_at(key, *value, i);
  return floats;
}

std::optional<bool> GgufFile::find_bool(std::string_view key) const {
  const Value* value = find(key, false, is_bool, "bool");
  if (!value) return std::nullopt;
  return file_.bytes()[value->offset] != std::byte{0};
}

std::optional<std::string> GgufFile::find_string(std::string_view key) const {
  const Value* value = find(key, false, is_string, "string");
  if (!value) return std::nullopt;
  const auto* p = file_.bytes().data() + value->offset;
  return std::string(reinterpret_cast<const char*>(p + 8), load<std::uint64_t>(p));
}

std::optional<std::vector<std::string>> GgufFile::find_strings(std::string_view key) const {
  const Value* value = find(key, true, is_string, "array of strings");
  if (!value) return std::nullopt;
  std::vector<std::string> strings;
  strings.reserve(value->count);
  const auto* p = file_.bytes().data() + value->offset;
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto length = load<std::uint64_t>(p);
    strings.emplace_back(reinterpret_cast<const char*>(p + 8), length);
    p += 8 + length;
  }
  return strings;
}

}  // namespace redline
