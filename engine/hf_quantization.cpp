#include "engine/hf_quantization.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <unordered_map>

#include "engine/model_file_error.h"

namespace redline {
namespace {

constexpr const char* kConfigKey = "quantization_config";

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void require_4_bits(const JsonFile& json, const char* key) {
  if (json.size(key) != 4) json.fail(key, "4");
}

// Columns that share a scale; 0 where -1 says all of them.
std::int64_t group_size(const JsonFile& json, const char* key) {
  const auto it = json.object().find(key);
  return it != json.object().end() && *it == -1 ? 0 : json.size(key);
}

// Scales for what this engine leaves unquantised: activations and the cache.
bool is_unused_scale(std::string_view name) {
  constexpr std::string_view kEndings[] = {".input_scale",  ".input_scale_ub", ".activation_scale",
                                           ".output_scale", ".k_scale",        ".v_scale",
                                           ".q_scale"};
  return std::ranges::any_of(kEndings, [&](std::string_view ending) { return name.ends_with(ending); });
}

std::optional<DType> plain_dtype(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kF32:
      return DType::kF32;
    case SafetensorsType::kF16:
      return DType::kF16;
    case SafetensorsType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace

// The stored tensors by name, taken one after the other.
class HfQuantization::Parts {
 public:
  explicit Parts(const std::vector<const SafetensorsTensor*>& stored) {
    for (const auto* tensor : stored) by_name_.emplace(tensor->name, tensor);
  }
  const SafetensorsTensor* find(const std::string& name) {
    const auto it = by_name_.find(name);
    if (it == by_name_.end()) return nullptr;
    const auto* tensor = it->second;
    by_name_.erase(it);
    return tensor;
  }
  /// `base` + `ending`, which `reader` needs.
  const SafetensorsTensor& take(const std::string& base, const char* ending,
                                const SafetensorsTensor& reader) {
    if (const auto* tensor = find(base + ending)) return *tensor;
    throw ModelFileError({reader.file->path(), "tensor " + printable(reader.name), reader.offset()},
                         "a tensor " + printable(base + ending) + " beside it", "none");
  }
  bool has(const std::string& name) const { return by_name_.contains(name); }

 private:
  std::unordered_map<std::string, const SafetensorsTensor*> by_name_;
};

HfQuantization::HfQuantization(const JsonFile& config) : file_(config.file()) {
  if (config.has(kConfigKey)) read_method(JsonFile(config, kConfigKey));
}

void HfQuantization::read_method(const JsonFile& json) {
  const std::string method = json.find_string("quant_method").value_or("");
  if (method == "fp8" || method == "fbgemm_fp8") {
    method_ = Method::kFp8;
    if (json.has("weight_block_size")) {
      const std::vector<float> sizes = json.positives("weight_block_size", 2);
      block_rows_ = static_cast<std::int64_t>(std::min(sizes[0], 1e9F));
      block_cols_ = static_cast<std::int64_t>(std::min(sizes[1], 1e9F));
      if (block_rows_ < 1 || block_cols_ < 1) json.fail("weight_block_size", "two sizes");
    }
  } else if (method == "compressed-tensors") {
    read_compressed(json);
  } else if (method == "awq") {
    method_ = Method::kAwq;
    const char* const bits_key = json.has("w_bit") ? "w_bit" : "bits";
    require_4_bits(json, bits_key);
    group_size_ = group_size(json, json.has("q_group_size") ? "q_group_size" : "group_size");
    if (lower(json.find_string("version").value_or("gemm")) != "gemm") json.fail("version", "\"gemm\"");
    if (!json.find_bool("zero_point").value_or(true)) json.fail("zero_point", "true");
  } else if (method == "gptq") {
    method_ = Method::kGptq;
    require_4_bits(json, "bits");
    group_size_ = group_size(json, "group_size");
    const std::string format = json.find_string("checkpoint_format").value_or("gptq");
    if (format != "gptq" && format != "gptq_v2") json.fail("checkpoint_format", "\"gptq\" or \"gptq_v2\"");
    zero_offset_ = format == "gptq" ? 1 : 0;
  } else {
    json.fail("quant_method", "\"fp8\", \"fbgemm_fp8\", \"compressed-tensors\", \"awq\" or \"gptq\"");
  }
}

// config_groups: {name: {weights: {num_bits, type, strategy, block_structure}}}.
void HfQuantization::read_compressed(const JsonFile& json) {
  method_ = Method::kFp8;
  const JsonFile groups(json, "config_groups");
  for (const auto& [name, group] : groups.object().items()) {
    const JsonFile weights(JsonFile(groups, name), "weights");
    if (weights.size("num_bits") != 8) weights.fail("num_bits", "8");
    if (weights.find_string("type").value_or("") != "float") weights.fail("type", "\"float\"");
    if (weights.find_string("strategy").value_or("") != "block") continue;
    const std::vector<float> sizes = weights.positives("block_structure", 2);
    block_rows_ = static_cast<std::int64_t>(std::min(sizes[0], 1e9F));
    block_cols_ = static_cast<std::int64_t>(std::min(sizes[1], 1e9F));
    if (block_rows_ < 1 || block_cols_ < 1) weights.fail("block_structure", "two sizes");
  }
}

std::vector<FileTensor> HfQuantization::read(const std::vector<const SafetensorsTensor*>& stored) {
  std::vector<FileTensor> tensors;
  const auto add = [&](const SafetensorsTensor& data, std::string name) -> FileTensor& {
    FileTensor& tensor = tensors.emplace_back();
    static_cast<StoredTensor&>(tensor) = data;
    tensor.name = std::move(name);
    return tensor;
  };
  const auto add_coded = [&](const SafetensorsTensor& data, const std::string& name,
                             std::unique_ptr<CodedMatrix> matrix) {
    FileTensor& tensor = add(data, name);
    tensor.shape = {matrix->rows(), matrix->cols()};
    tensor.dtype = matrix->dtype();
    tensor.code = matrices_.emplace_back(std::move(matrix)).get();
  };
  Parts parts(stored);
  // First the matrices that several tensors make, then what is left.
  for (const auto* tensor : stored) {
    const std::string_view ending = method_ == Method::kFp8 ? ".weight" : ".qweight";
    if (method_ == Method::kNone || !tensor->name.ends_with(ending)) continue;
    if (method_ == Method::kFp8 && tensor->type != SafetensorsType::kF8E4M3) continue;
    const std::string base = tensor->name.substr(0, tensor->name.size() - ending.size());
    parts.find(tensor->name);
    if (method_ == Method::kFp8) {
      const char* scales = parts.has(base + ".weight_scale_inv") ? ".weight_scale_inv" : ".weight_scale";
      add_coded(*tensor, tensor->name,
                make_fp8_matrix({.codes = tensor,
                                 .scales = &parts.take(base, scales, *tensor),
                                 .block_rows = block_rows_,
                                 .block_cols = block_cols_}));
    } else {
      const auto& scales = parts.take(base, ".scales", *tensor);
      if (group_size_ > 0 && !scales.shape.empty() && scales.shape[0] > 0) {
        const std::int64_t k =
            tensor->shape.empty() ? 0 : tensor->shape[0] * (method_ == Method::kGptq ? 8 : 1);
        if (scales.shape[0] * group_size_ != k)
          throw ModelFileError(
              {scales.file->path(), "tensor " + printable(scales.name), scales.offset()},
              "groups of " + std::to_string(group_size_) + " of " + std::to_string(k) + " columns",
              shape_text(scales.shape));
      }
      add_coded(*tensor, base + ".weight",
                make_int4_matrix({.packing = method_ == Method::kAwq ? Int4Parts::Packing::kAwq
                                                                     : Int4Parts::Packing::kGptq,
                                  .zero_offset = zero_offset_,
                                  .qweight = tensor,
                                  .qzeros = &parts.take(base, ".qzeros", *tensor),
                                  .scales = &scales,
                                  .group_index = parts.find(base + ".g_idx")}));
    }
  }
  for (const auto* tensor : stored) {
    if (!parts.has(tensor->name)) continue;
    if (method_ == Method::kFp8 && is_unused_scale(tensor->name)) continue;
    const auto dtype = plain_dtype(tensor->type);
    if (!dtype)
      throw ModelFileError(
          {tensor->file->path(), "tensor " + printable(tensor->name), tensor->offset()},
          "F32, F16 or BF16, or " + std::string(kConfigKey) + " in config.json to explain it",
          name(tensor->type));
    add(*tensor, tensor->name).dtype = *dtype;
  }
  return tensors;
}

}  // namespace redline
