#include "engine/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "engine/json_file.h"
#include "engine/json_parse.h"
#include "engine/model_file_error.h"

namespace redline {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "values are read in place");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct TypeTraits {
  const char* name;
  std::uint64_t bytes;
};
constexpr TypeTraits kTypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"I32", 4}};

// One tensor's entry in the header.
class TensorEntry {
 public:
  TensorEntry(const MappedFile& file, const std::string& tensor_name, const Json& entry)
      : file_(file), name_(tensor_name), entry_(entry) {
    if (!entry.is_object()) fail("an object", entry);
  }

  SafetensorsTensor read(std::span<const std::byte> data) const {
    SafetensorsTensor tensor;
    tensor.name = name_;
    tensor.file = &file_;
    tensor.type = type();
    std::uint64_t bytes = kTypes[static_cast<int>(tensor.type)].bytes;
    for (const Json& dim : array("shape")) {
      if (!dim.is_number_unsigned()) fail("a shape of sizes", field("shape"));
      const auto size = dim.get<std::uint64_t>();
      if (size != 0 && bytes > data.size() / size)
        fail("a shape within the data's " + std::to_string(data.size()) + " bytes", field("shape"));
      bytes *= size;
      tensor.shape.push_back(static_cast<std::int64_t>(size));
    }
    const Json& offsets = array("data_offsets");
    if (offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
      fail("data_offsets [begin, end]", offsets);
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    if (begin > end || end > data.size())
      fail("data_offsets within the data's " + std::to_string(data.size()) + " bytes", offsets);
    if (end - begin != bytes)
      fail("data_offsets " + std::to_string(bytes) + " bytes apart, as type and shape say", offsets);
    tensor.data = data.subspan(begin, bytes);
    return tensor;
  }

 private:
  SafetensorsType type() const {
    const Json& type = field("dtype");
    const auto* found =
        std::ranges::find_if(kTypes, [&](const TypeTraits& each) { return type == each.name; });
    if (found == std::end(kTypes)) fail("dtype F32, F16, BF16, F8_E4M3 or I32", type);
    return static_cast<SafetensorsType>(found - std::begin(kTypes));
  }
  const Json& field(const char* key) const {
    const auto it = entry_.find(key);
    if (it == entry_.end()) fail(std::string("the field ") + key, entry_);
    return *it;
  }
  const Json& array(const char* key) const {
    const Json& value = field(key);
    if (!value.is_array()) fail(std::string(key) + " as an array", value);
    return value;
  }
  [[noreturn]] void fail(const std::string& expected, const Json& found) const {
    auto text = found.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 100) text = text.substr(0, 100) + "...";
    throw ModelFileError({file_.path(), "tensor " + printable(name_)}, expected, text);
  }

  const MappedFile& file_;
  const std::string& name_;
  const Json& entry_;
};

}  // namespace

const char* name(SafetensorsType type) { return kTypes[static_cast<int>(type)].name; }

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) { read(); }

SafetensorsFile::SafetensorsFile(std::string name, std::span<const std::byte> bytes)
    : file_(std::move(name), bytes) {
  read();
}

void SafetensorsFile::read() {
  const auto bytes = file_.bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes)
    throw ModelFileError({file_.path(), "header length", 0}, "8 bytes", std::to_string(bytes.size()));
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const auto limit = std::min<std::uint64_t>(bytes.size() - sizeof header_bytes, kMaxHeaderBytes);
  if (header_bytes > limit)
    throw ModelFileError({file_.path(), "header length", 0}, "at most " + std::to_string(limit) + " bytes",
                         std::to_string(header_bytes));
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + sizeof header_bytes,
                                header_bytes);
  const Json json = parse_json_object(file_.path(), header, sizeof header_bytes);
  const auto data = bytes.subspan(sizeof header_bytes + header_bytes);
  for (const auto& [tensor_name, entry] : json.items())
    if (tensor_name != "__metadata__") tensors_.push_back(TensorEntry(file_, tensor_name, entry).read(data));
  std::ranges::sort(tensors_, {},
                    [](const SafetensorsTensor& t) { return std::pair(t.offset(), t.data.size()); });
  std::uint64_t end = bytes.size() - data.size();
  for (const SafetensorsTensor& tensor : tensors_) {
    if (tensor.offset() != end)
      throw ModelFileError({file_.path(), "tensor " + printable(tensor.name), tensor.offset()},
                           "data at byte " + std::to_string(end) + ", where the tensor before it ends",
                           tensor.offset() < end ? "an overlap" : "a gap");
    end += tensor.data.size();
  }
  if (end != bytes.size())
    throw ModelFileError({file_.path(), "end of the tensors", end}, "the end of the file",
                         std::to_string(bytes.size() - end) + " more bytes");
}

std::vector<std::unique_ptr<SafetensorsFile>> open_safetensors(const std::filesystem::path& directory) {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  if (const auto single = directory / "model.safetensors"; std::filesystem::exists(single)) {
    files.push_back(std::make_unique<SafetensorsFile>(single));
    return files;
  }
  const auto index_path = directory / "model.safetensors.index.json";
  if (!std::filesystem::exists(index_path))
    throw ModelFileError({directory.string()}, "model.safetensors or model.safetensors.index.json",
                         "neither");
  const JsonFile weight_map(JsonFile(index_path), "weight_map");
  std::map<std::string, std::size_t> tensors_of_shard;
  for (const auto& [tensor_name, shard] : weight_map.object().items()) {
    if (!shard.is_string() || shard.get_ref<const std::string&>().find('/') != std::string::npos)
      weight_map.fail(tensor_name.c_str(), "the name of a file in this directory");
    ++tensors_of_shard[shard.get<std::string>()];
  }
  for (const auto& [shard, num_tensors] : tensors_of_shard) {
    const SafetensorsFile& file = *files.emplace_back(std::make_unique<SafetensorsFile>(directory / shard));
    for (const SafetensorsTensor& tensor : file.tensors())
      if (const auto it = weight_map.object().find(tensor.name);
          it == weight_map.object().end() || *it != shard)
        throw ModelFileError({file.file().path(), "tensor " + printable(tensor.name), tensor.offset()},
                             "only tensors that the index puts into this file", "another");
    if (file.tensors().size() != num_tensors)
      throw ModelFileError({file.file().path()}, std::to_string(num_tensors) + " tensors, as the index says",
                           std::to_string(file.tensors().size()));
  }
  return files;
}

}  // namespace redline
