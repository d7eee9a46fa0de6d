// FP8: E4M3 codes with scales, as Hugging Face's "fp8", "fbgemm_fp8" and "compressed-tensors" checkpoints
// hold them.
#include <cstring>
#include <string>
#include <vector>

#include "engine/coded_matrix.h"
#include "engine/model_file_error.h"
#include "kernels/convert.h"

namespace redline {
namespace {

constexpr std::int64_t kBlock = traits(DType::kF8E4M3).block_elements;

std::vector<float> scale_values(const SafetensorsTensor& tensor) {
  DType dtype;
  switch (tensor.type) {
    case SafetensorsType::kF32:
      dtype = DType::kF32;
      break;
    case SafetensorsType::kF16:
      dtype = DType::kF16;
      break;
    case SafetensorsType::kBF16:
      dtype = DType::kBF16;
      break;
    default:
      throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()},
                           "scales in F32, F16 or BF16", name(tensor.type));
  }
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  dequantize_row(dtype, tensor.data.data(), tensor.elements(), out.data());
  return out;
}

class Fp8Matrix final : public CodedMatrix {
 public:
  explicit Fp8Matrix(const Fp8Parts& parts) : codes_(*parts.codes), scales_(scale_values(*parts.scales)) {
    if (codes_.type != SafetensorsType::kF8E4M3 || codes_.shape.size() != 2 || codes_.elements() == 0)
      throw ModelFileError({codes_.file->path(), "tensor " + printable(codes_.name), codes_.offset()},
                           "F8_E4M3 [N, K]", std::string(name(codes_.type)) + " " + shape_text(codes_.shape));
    rows_ = codes_.shape[0], cols_ = codes_.shape[1];
    const std::vector<std::int64_t>& shape = parts.scales->shape;
    block_rows_ = rows_, block_cols_ = cols_;
    if (shape == std::vector{rows_} || shape == std::vector{rows_, std::int64_t{1}}) {
      block_rows_ = 1;
    } else if (scales_.size() != 1) {
      block_rows_ = parts.block_rows > 0 ? parts.block_rows : rows_;
      block_cols_ = parts.block_cols > 0 ? parts.block_cols : cols_;
      const std::vector expected{(rows_ + block_rows_ - 1) / block_rows_, num_block_cols()};
      if (shape != expected)
        throw ModelFileError(
            {parts.scales->file->path(), "tensor " + printable(parts.scales->name), parts.scales->offset()},
            "shape " + shape_text(expected) + " for weights " + shape_text(codes_.shape), shape_text(shape));
    }
    exact_ = cols_ % kBlock == 0 && (block_cols_ % kBlock == 0 || num_block_cols() == 1);
  }

  std::int64_t rows() const override { return rows_; }
  std::int64_t cols() const override { return cols_; }
  DType dtype() const override { return exact_ ? DType::kF8E4M3 : DType::kBF16; }

  void encode(std::int64_t first, std::int64_t count, std::byte* out) const override {
    std::vector<float> row_values(exact_ ? 0 : static_cast<std::size_t>(cols_));
    for (std::int64_t row = first; row < first + count; ++row, out += row_bytes(dtype(), cols_)) {
      if (exact_) {
        encode_blocks(row, out);
      } else {
        values(row, row_values.data());
        quantize_row(DType::kBF16, row_values.data(), cols_, out);
      }
    }
  }

  void values(std::int64_t row, float* out) const override {
    for (std::int64_t k = 0; k < cols_; ++k)
      out[k] =
          scale(row, k) *
          e4m3_to_f32(std::to_integer<std::uint8_t>(codes_.data[static_cast<std::size_t>(row * cols_ + k)]));
  }

 private:
  float scale(std::int64_t row, std::int64_t k) const {
    return scales_[static_cast<std::size_t>(row / block_rows_ * num_block_cols() + k / block_cols_)];
  }
  void encode_blocks(std::int64_t row, std::byte* out) const {
    const std::byte* codes = codes_.data.data() + row * cols_;
    for (std::int64_t k = 0; k < cols_; k += kBlock, out += row_bytes(DType::kF8E4M3, kBlock)) {
      const float block_scale = scale(row, k);
      std::memcpy(out, &block_scale, sizeof block_scale);
      std::memcpy(out + sizeof block_scale, codes + k, static_cast<std::size_t>(kBlock));
    }
  }
  std::int64_t num_block_cols() const { return (cols_ + block_cols_ - 1) / block_cols_; }

  const SafetensorsTensor& codes_;
  const std::vector<float> scales_;
  std::int64_t rows_ = 0, cols_ = 0;
  std::int64_t block_rows_ = 0, block_cols_ = 0;  // of weights that share a scale
  bool exact_ = false;
};

}  // namespace

std::unique_ptr<CodedMatrix> make_fp8_matrix(const Fp8Parts& parts) {
  return std::make_unique<Fp8Matrix>(parts);
}

}  // namespace redline
