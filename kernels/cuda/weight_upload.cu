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

void WeightUpload::store(const MatrixSource& source, const WeightView& weight) {
  using Clock = std::chrono::steady_clock;
  REDLINE_CHECK(source.rows == weight.rows && source.cols == weight.cols &&
                    (source.dtype == weight.dtype || !is_quantized(weight.dtype)),
                "a matrix of the source's shape, of its own type or as floats");
  const auto start = Clock::now();
  const std::int64_t bytes = row_bytes(weight.dtype, weight.cols);
  const std::int64_t rows_a_turn = std::max<std::int64_t>(1, kTurnBytes / std::max<std::int64_t>(bytes, 1));
  std::size_t next = 0;
  for (std::int64_t row = 0; row < source.rows; row += rows_a_turn, next ^= 1)
    store_rows(source, weight, row, std::min(rows_a_turn, source.rows - row), turns_[next]);
  stream_.synchronize();
  num_bytes_ += source.rows * bytes;
  elapsed_ns_ += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

void WeightUpload::store_rows(const MatrixSource& source, const WeightView& to, std::int64_t first,
                              std::int64_t count, Turn& turn) {
  const auto bytes = array_row_bytes(to.dtype, to.cols);
  turn.copied.synchronize();
  const auto needed = static_cast<std::size_t>(count * row_bytes(to.dtype, to.cols));
  if (turn.pinned.size() < needed) turn.pinned = allocate_pinned(needed);
  PerWeightArray<std::byte*> staged{};
  std::byte* next = turn.pinned.data();
  for (std::size_t a = 0; a < bytes.size(); next += count * bytes[a++])
    if (bytes[a] > 0) staged[a] = next;
  constexpr std::int64_t kRowsAChunk = 16;
  pool_.run((count + kRowsAChunk - 1) / kRowsAChunk, [&](std::int64_t chunk, int) {
    const std::int64_t end = std::min(count, (chunk + 1) * kRowsAChunk);
    for (std::int64_t i = chunk * kRowsAChunk; i < end; ++i) {
      PerWeightArray<std::byte*> row = staged;
      for (std::size_t a = 0; a < row.size(); ++a)
        if (row[a] != nullptr) row[a] += i * bytes[a];
      if (is_quantized(to.dtype))
        split_row(to.dtype, source.row(first + i), to.cols, row);
      else
        convert_row(source.dtype, source.row(first + i), to.cols, to.dtype, row[0]);
    }
  });
  const WeightLayout layout = weight_layout(to.dtype, to.rows, to.cols);
  for (std::size_t a = 0; a < bytes.size(); ++a)
    if (bytes[a] > 0)
      dev::copy_to_device_async(const_cast<std::byte*>(to.data) + layout.offsets[a] + first * bytes[a],
                                staged[a], static_cast<std::size_t>(count * bytes[a]), stream_.get());
  turn.copied.record(stream_);
}

}  // namespace redline::cuda
