// Quantised Hugging Face directories: what is refused, by name. That they give the right logits is
// golden_test's.
#include "engine/hf_quantization.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/checkpoint.h"
#include "engine/model_file_error.h"
#include "tests/engine/golden.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

using Json = nlohmann::json;

/// A copy of a golden model whose files a test may change.
class Changed {
 public:
  explicit Changed(const std::string& model) {
    const auto folder = kGoldens / "tiny" / model;
    config = read_golden_json(folder / "config.json");
    const std::string bytes = read_golden(folder / "model.safetensors");
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
    header = Json::parse(bytes.substr(8, header_bytes));
    data_ = bytes.substr(8 + header_bytes);
  }
  Json& quantization() { return config["quantization_config"]; }
  /// The header's entry of a tensor of the first layer.
  Json& tensor(const std::string& name) { return header.at("model.layers.0." + name); }
  void set_i32(const std::string& name, std::size_t index, std::int32_t value) {
    data_.replace(tensor(name)["data_offsets"][0].get<std::size_t>() + 4 * index, 4, bytes_of(value));
  }
  std::string error() const {
    directory_.write("config.json", config.dump());
    directory_.write("model.safetensors", safetensors_bytes(header.dump(), data_));
    try {
      const Checkpoint checkpoint(directory_.path().string());
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }

  Json config, header;

 private:
  TemporaryDirectory directory_;
  std::string data_;
};

void expect_error(const Changed& changed, const std::string& message) {
  EXPECT_NE(changed.error().find(message), std::string::npos) << "found \"" << changed.error() << '"';
}

TEST(HfQuantization, NamesTheKeyOfAMethodOrOptionThatIsNotSupported) {
  const auto expect = [](const char* model, const char* key, const Json& value, const std::string& message) {
    Changed changed(model);
    ASSERT_EQ(changed.error(), "");
    changed.quantization()[key] = value;
    expect_error(changed, "config.json: quantization_config." + message);
  };
  const char *gptq = "quantized_gptq_4to2", *awq = "quantized_awq_4to2", *fp8 = "quantized_fp8_blocks_4to2";
  expect(gptq, "quant_method", "bitsandbytes", "quant_method: expected \"fp8\"");
  expect(gptq, "bits", 3, "bits: expected 4, found 3");
  expect(gptq, "checkpoint_format", "marlin", "checkpoint_format: expected \"gptq\" or \"gptq_v2\"");
  expect(awq, "bits", 8, "bits: expected 4, found 8");
  expect(awq, "version", "gemv", "version: expected \"gemm\", found \"gemv\"");
  expect(awq, "zero_point", false, "zero_point: expected true, found false");
  expect(fp8, "weight_block_size", 128, "weight_block_size: expected 2 positive numbers");
  Changed compressed("quantized_fp8_channel_phi3_4to2");
  ASSERT_EQ(compressed.error(), "");
  compressed.quantization()["config_groups"]["group_0"]["weights"]["num_bits"] = 4;
  expect_error(compressed, "num_bits: expected 8, found 4");
}

TEST(HfQuantization, NamesTheTensorThatIsMissingOrHasTheWrongShape) {
  Changed no_zeros("quantized_gptq_4to2");
  no_zeros.header["other"] = no_zeros.tensor("mlp.up_proj.qzeros");
  no_zeros.header.erase("model.layers.0.mlp.up_proj.qzeros");
  expect_error(no_zeros, "mlp.up_proj.qweight\"");
  expect_error(no_zeros, "a tensor \"model.layers.0.mlp.up_proj.qzeros\" beside it, found none");

  Changed wide_scales("quantized_awq_4to2");
  auto& shape = wide_scales.tensor("mlp.up_proj.scales")["shape"];
  shape = {shape[0].get<int>() * 2, shape[1].get<int>() / 2};
  expect_error(wide_scales, "mlp.up_proj.scales\"");

  Changed groups("quantized_gptq_4to2");
  groups.quantization()["group_size"] = 16;
  expect_error(groups, "groups of 16 of ");

  Changed blocks("quantized_fp8_blocks_4to2");
  blocks.quantization()["weight_block_size"] = {64, 128};
  expect_error(blocks, "weight_scale_inv\"");

  Changed unexplained("quantized_fp8_tensor_4to2");
  unexplained.config.erase("quantization_config");
  expect_error(unexplained, "quantization_config in config.json to explain it, found F");
}

TEST(HfQuantization, RefusesAGroupThatDoesNotExist) {
  Changed changed("quantized_gptq_act_order_v2_4to2");
  ASSERT_EQ(changed.error(), "");
  changed.set_i32("mlp.up_proj.g_idx", 3, 2);
  expect_error(changed, "mlp.up_proj.g_idx\"");
  expect_error(changed, "expected groups below 2, found 2 at 3");
  changed.set_i32("mlp.up_proj.g_idx", 3, -1);
  expect_error(changed, "expected groups below 2, found -1 at 3");
}

}  // namespace
}  // namespace redline
