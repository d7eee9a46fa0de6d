#include "kernels/cuda/weight_upload.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/check.h"
#include "kernels/convert.h"

namespace redline::cuda {
namespace {

constexpr std::int64_t kTurnBytes = std::int64_t{16} << 20;
constexpr std::int64_t kArrayAlignment = 256;
constexpr std::int64_t kGroup = 32;  // elements that share a scale

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kArrayAlignment - 1) / kArrayAlignment * kArrayAlignment;
}

// One row of GGUF blocks, scale first, as quants and scales apart.
void split_row(DType dtype, const std::byte* row, std::int64_t cols, std::byte* quants, std::byte* scales) {
  const auto block_bytes = static_cast<std::size_t>(traits(dtype).block_bytes);
  const auto scale_bytes = static_cast<std::size_t>(scale_row_bytes(dtype, kGroup));
  const std::size_t quant_bytes = block_bytes - scale_bytes;
  for (std::int64_t i = 0; i < cols / kGroup; ++i, row += block_bytes) {
    std::memcpy(scales, row, scale_bytes);
    std::memcpy(quants, row + scale_bytes, quant_bytes);
    scales += scale_bytes;
    quants += quant_bytes;
  }
}

void convert_row(DType from, const std::byte* row, std::int64_t cols, DType to, std::byte* out) {
  if (from == to) {
    std::memcpy(out, row, static_cast<std::size_t>(row_bytes(to, cols)));
    return;
  }
  thread_local std::vector<float> values;
  values.resize(static_cast<std::size_t>(cols));
  dequantize_row(from, row, cols, values.data());
  quantize_row(to, values.data(), cols, out);
}

}  // namespace

std::int64_t scale_row_bytes(DType dtype, std::int64_t cols) {
  if (!is_quantized(dtype)) return 0;
  return cols / kGroup * (dtype == DType::kQ4_1 ? 4 : 2);
}

std::int64_t quant_row_bytes(DType dtype, std::int64_t cols) {
  return row_bytes(dtype, cols) - scale_row_bytes(dtype, cols);
}

std::int64_t weight_arrays_bytes(DType dtype, std::int64_t rows, std::int64_t cols) {
  return aligned(rows * quant_row_bytes(dtype, cols)) + rows * scale_row_bytes(dtype, cols);
}

std::vector<std::byte> joined_blocks(DType dtype, std::span<const std::byte> quants,
                                     std::span<const std::byte> scales) {
  const auto scale_bytes = static_cast<std::size_t>(scale_row_bytes(dtype, kGroup));
  const auto quant_bytes = static_cast<std::size_t>(traits(dtype).block_bytes) - scale_bytes;
  std::vector<std::byte> blocks;
  blocks.reserve(quants.size() + scales.size());
  for (; !scales.empty(); scales = scales.subspan(scale_bytes), quants = quants.subspan(quant_bytes)) {
    blocks.insert(blocks.end(), scales.begin(), scales.begin() + static_cast<std::ptrdiff_t>(scale_bytes));
    blocks.insert(blocks.end(), quants.begin(), quants.begin() + static_cast<std::ptrdiff_t>(quant_bytes));
  }
  return blocks;
}

WeightArrays weight_arrays(const WeightView& weight) {
  WeightArrays arrays;
  arrays.dtype = weight.dtype;
  arrays.quants = weight.data;
  if (is_quantized(weight.dtype))
    arrays.scales = weight.data + aligned(weight.rows * quant_row_bytes(weight.dtype, weight.cols));
  arrays.rows = weight.rows;
  arrays.cols = weight.cols;
  return arrays;
}

void WeightUpload::store(const MatrixSource& source, const WeightView& weight) {
  using Clock = std::chrono::steady_clock;
  REDLINE_CHECK(source.rows == weight.rows && source.cols == weight.cols &&
                    (source.dtype == weight.dtype || !is_quantized(weight.dtype)),
                "a matrix of the source's shape, of its own type or as floats");
  const auto start = Clock::now();
  const WeightArrays to = weight_arrays(weight);
  const std::int64_t bytes = row_bytes(weight.dtype, weight.cols);
  const std::int64_t rows_a_turn = std::max<std::int64_t>(1, kTurnBytes / std::max<std::int64_t>(bytes, 1));
  std::size_t next = 0;
  for (std::int64_t row = 0; row < source.rows; row += rows_a_turn, next ^= 1)
    store_rows(source, to, row, std::min(rows_a_turn, source.rows - row), turns_[next]);
  stream_.synchronize();
  num_bytes_ += source.rows * bytes;
  elapsed_ns_ += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

void WeightUpload::store_rows(const MatrixSource& source, const WeightArrays& to, std::int64_t first,
                              std::int64_t count, Turn& turn) {
  const std::int64_t quant_bytes = quant_row_bytes(to.dtype, to.cols);
  const std::int64_t scale_bytes = scale_row_bytes(to.dtype, to.cols);
  const auto needed = static_cast<std::size_t>(count * (quant_bytes + scale_bytes));
  turn.copied.synchronize();
  if (turn.pinned.size() < needed) turn.pinned = allocate_pinned(needed);
  std::byte* const quants = turn.pinned.data();
  std::byte* const scales = quants + count * quant_bytes;
  constexpr std::int64_t kRowsAChunk = 16;
  pool_.run((count + kRowsAChunk - 1) / kRowsAChunk, [&](std::int64_t chunk, int) {
    const std::int64_t end = std::min(count, (chunk + 1) * kRowsAChunk);
    for (std::int64_t i = chunk * kRowsAChunk; i < end; ++i) {
      if (is_quantized(to.dtype))
        split_row(to.dtype, source.row(first + i), to.cols, quants + i * quant_bytes,
                  scales + i * scale_bytes);
      else
        convert_row(source.dtype, source.row(first + i), to.cols, to.dtype, quants + i * quant_bytes);
    }
  });
  const auto copy = [&](const std::byte* array, const std::byte* from, std::int64_t row) {
    if (row == 0) return;
    dev::copy_to_device_async(const_cast<std::byte*>(array) + first * row, from,
                              static_cast<std::size_t>(count * row), stream_.get());
  };
  copy(to.quants, quants, quant_bytes);
  copy(to.scales, scales, scale_bytes);
  turn.copied.record(stream_);
}

}  // namespace redline::cuda
