// out[t] = table[token_ids[t]], widened to f32, and the same for a range of rows: a matrix unpacked, for
// products that take it whole.
//
// Each thread converts 8 consecutive columns of one row (1 where rows do not divide by 8).
// Limit: bytes: the rows of the table as stored, and what is written. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/quantized.cuh"

namespace redline::cuda {

inline constexpr int kRowCopyThreads = 256;

/// Row `ids[r]` of the table, or row first_row + r where ids is null, goes to row r of out.
template <class T>
struct UnpackRowsArgs {
  WeightArrays table;
  const std::int32_t* ids = nullptr;
  std::int64_t first_row = 0;
  T* out = nullptr;  // [num_rows, table.cols]
  std::int64_t num_rows = 0;
};

template <DType kType, int V, class T>
__global__ void __launch_bounds__(kRowCopyThreads) unpack_rows_kernel(const UnpackRowsArgs<T> args) {
  const std::int64_t vectors = args.table.cols / V, index = grid_thread<kRowCopyThreads>();
  if (index >= args.num_rows * vectors) return;
  const std::int64_t row = index / vectors, col = index % vectors * V;
  const std::int64_t source = args.ids == nullptr ? args.first_row + row : args.ids[row];
  float f[V];
  load_weights<kType>(args.table, source, col, f);
  store_elements(args.out + row * args.table.cols + col, f);
}

template <class T>
inline void unpack_rows(const UnpackRowsArgs<T>& args, dev::stream_t stream) {
  if (args.num_rows == 0 || args.table.cols == 0) return;
  with_dtype(args.table.dtype, [&](auto tag) {
    constexpr DType kType = decltype(tag)::value;
    const auto launch = [&](auto* kernel, int width) {
      dev::launch(kernel, grid_for<kRowCopyThreads>(args.num_rows * (args.table.cols / width)),
                  dim3(kRowCopyThreads), 0, stream, args);
    };
    if constexpr (!is_quantized(kType))
      if (!vectors_fit(args.out, args.table.cols)) return launch(unpack_rows_kernel<kType, 1, T>, 1);
    launch(unpack_rows_kernel<kType, 8, T>, 8);
  });
}

/// out[T, H] (f32) = table[token_ids]. `out` is aligned to 16 bytes where the table is quantised; ids are
/// rows of the table.
inline void embed(float* out, const WeightArrays& table, const std::int32_t* token_ids, int num_tokens,
                  dev::stream_t stream) {
  unpack_rows<float>({.table = table, .ids = token_ids, .out = out, .num_rows = num_tokens}, stream);
}

/// out[num_rows, K] = rows [first_row, first_row + num_rows) of `weight`, rounded to T (bf16 or float). `out`
/// is aligned to 16 bytes where the matrix is quantised.
template <class T>
inline void dequantize(T* out, const WeightArrays& weight, std::int64_t first_row, std::int64_t num_rows,
                       dev::stream_t stream) {
  unpack_rows<T>({.table = weight, .first_row = first_row, .out = out, .num_rows = num_rows}, stream);
}

}  // namespace redline::cuda
