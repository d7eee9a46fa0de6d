// AWQ and GPTQ: 4-bit integers in groups. Formats as their authors' packers write them:
// github.com/casper-hansen/ AutoAWQ (the "gemm" version) and github.com/AutoGPTQ/AutoGPTQ.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "engine/coded_matrix.h"
#include "engine/model_file_error.h"
#include "kernels/convert.h"

namespace redline {
namespace {

constexpr int kCodesPerWord = 8;
constexpr int kAwqNibble[kCodesPerWord] = {0, 4, 1, 5, 2, 6, 3, 7};  // of column n, by n % 8
constexpr std::int64_t kBlock = 32;

std::uint32_t word(const SafetensorsTensor& tensor, std::int64_t index) {
  std::uint32_t value;
  std::memcpy(&value, tensor.data.data() + index * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

void require(const SafetensorsTensor& tensor, SafetensorsType type, const std::vector<std::int64_t>& shape) {
  if (tensor.type == type && tensor.shape == shape) return;
  throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()},
                       std::string(name(type)) + " " + shape_text(shape),
                       std::string(name(tensor.type)) + " " + shape_text(tensor.shape));
}

class Int4Matrix final : public CodedMatrix {
 public:
  explicit Int4Matrix(const Int4Parts& parts)
      : parts_(parts), awq_(parts.packing == Int4Parts::Packing::kAwq) {
    const auto& q = *parts.qweight;
    const auto& scales = *parts.scales;
    if (q.type != SafetensorsType::kI32 || q.shape.size() != 2 || q.elements() == 0)
      fail(q, "I32 [K / 8, N] or [K, N / 8]", std::string(name(q.type)) + " " + shape_text(q.shape));
    cols_ = q.shape[0] * (awq_ ? 1 : kCodesPerWord);
    rows_ = q.shape[1] * (awq_ ? kCodesPerWord : 1);
    if (scales.shape.size() != 2 || scales.shape[0] < 1 || cols_ % scales.shape[0] != 0)
      fail(scales, "[G, " + std::to_string(rows_) + "], G a divisor of " + std::to_string(cols_),
           shape_text(scales.shape));
    num_groups_ = scales.shape[0];
    require(scales, SafetensorsType::kF16, {num_groups_, rows_});
    require(*parts.qzeros, SafetensorsType::kI32, {num_groups_, rows_ / kCodesPerWord});
    if (rows_ % kCodesPerWord != 0) fail(q, "a multiple of 8 rows", std::to_string(rows_));
    read_groups();
    dtype_ = groups_are_runs_ ? (zeros_are_8() ? DType::kQ4_0 : DType::kQ4_1) : DType::kF16;
  }

  std::int64_t rows() const override { return rows_; }
  std::int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }

  void encode(std::int64_t first, std::int64_t count, std::byte* out) const override {
    // Neighbouring rows share words: a few of them go through the columns together.
    constexpr std::int64_t kRowsTogether = 16;
    const std::int64_t stride = row_bytes(dtype_, cols_), block_bytes = row_bytes(dtype_, kBlock);
    for (std::int64_t begin = first; begin < first + count; begin += kRowsTogether)
      for (std::int64_t k = 0; k < cols_; k += kBlock)
        for (std::int64_t row = begin; row < std::min(begin + kRowsTogether, first + count); ++row)
          encode_block(row, k, out + (row - first) * stride + k / kBlock * block_bytes);
  }

  void values(std::int64_t row, float* out) const override {
    for (std::int64_t k = 0; k < cols_; ++k) out[k] = value(row, k);
  }

 private:
  [[noreturn]] static void fail(const SafetensorsTensor& tensor, const std::string& expected,
                                const std::string& found) {
    throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()}, expected,
                         found);
  }

  void read_groups() {
    const std::int64_t group_cols = cols_ / num_groups_;
    groups_are_runs_ = group_cols % kBlock == 0;
    group_of_.resize(static_cast<std::size_t>(cols_));
    for (std::int64_t k = 0; k < cols_; ++k)
      group_of_[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(k / group_cols);
    if (!parts_.group_index) return;
    require(*parts_.group_index, SafetensorsType::kI32, {cols_});
    for (std::int64_t k = 0; k < cols_; ++k) {
      const std::uint32_t group = word(*parts_.group_index, k);
      if (group >= static_cast<std::uint64_t>(num_groups_))
        fail(*parts_.group_index, "groups below " + std::to_string(num_groups_),
             std::to_string(static_cast<std::int32_t>(group)) + " at " + std::to_string(k));
      auto& known = group_of_[static_cast<std::size_t>(k)];
      groups_are_runs_ = groups_are_runs_ && known == static_cast<std::int32_t>(group);
      known = static_cast<std::int32_t>(group);
    }
  }

  int code(std::int64_t row, std::int64_t k) const {
    const std::uint32_t packed =
        awq_ ? word(*parts_.qweight, k * (rows_ / kCodesPerWord) + row / kCodesPerWord)
             : word(*parts_.qweight, k / kCodesPerWord * rows_ + row);
    return static_cast<int>(packed >> 4 * (awq_ ? kAwqNibble[row % kCodesPerWord] : k % kCodesPerWord) & 15);
  }
  int zero(std::int64_t row, std::int64_t group) const {
    const std::uint32_t packed = word(*parts_.qzeros, group * (rows_ / kCodesPerWord) + row / kCodesPerWord);
    const auto nibble = awq_ ? kAwqNibble[row % kCodesPerWord] : row % kCodesPerWord;
    return static_cast<int>((packed >> 4 * nibble & 15) + static_cast<unsigned>(parts_.zero_offset)) & 15;
  }
  std::uint16_t scale(std::int64_t row, std::int64_t group) const {
    return load_u16(parts_.scales->data.data() + (group * rows_ + row) * 2);
  }

  float value(std::int64_t row, std::int64_t k) const {
    const auto group = group_of_[static_cast<std::size_t>(k)];
    return f16_to_f32(scale(row, group)) * static_cast<float>(code(row, k) - zero(row, group));
  }

  bool zeros_are_8() const {
    for (std::int64_t group = 0; group < num_groups_; ++group)
      for (std::int64_t row = 0; row < rows_; ++row)
        if (zero(row, group) != 8) return false;
    return true;
  }

  // Columns [k, k + 32) of a row, fewer where the row ends: those are f16.
  void encode_block(std::int64_t row, std::int64_t k, std::byte* out) const {
    if (dtype_ == DType::kF16) {
      for (std::int64_t i = k; i < std::min(k + kBlock, cols_); ++i, out += 2) store_f16(value(row, i), out);
      return;
    }
    const auto group = group_of_[static_cast<std::size_t>(k)];
    const std::uint16_t d = scale(row, group);
    std::memcpy(out, &d, sizeof d);
    out += sizeof d;
    if (dtype_ == DType::kQ4_1) {
      store_f16(-f16_to_f32(d) * static_cast<float>(zero(row, group)), out);
      out += sizeof d;
    }
    for (std::int64_t i = k; i < k + kBlock / 2; ++i)
      *out++ = static_cast<std::byte>(code(row, i) | code(row, i + kBlock / 2) << 4);
  }

  const Int4Parts parts_;
  const bool awq_;
  std::int64_t rows_ = 0, cols_ = 0, num_groups_ = 0;
  std::vector<std::int32_t> group_of_;  // [K]
  bool groups_are_runs_ = false;        // of a multiple of a block's columns
  DType dtype_ = DType::kQ4_1;
};

}  // namespace

std::unique_ptr<CodedMatrix> make_int4_matrix(const Int4Parts& parts) {
  return std::make_unique<Int4Matrix>(parts);
}

}  // namespace redline
