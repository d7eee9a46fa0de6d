// Copies: rows gathered by index, whole cache blocks, and arrays converted between f32 and A.
//
// Each thread owns one 16-byte vector (one element where vectors do not fit).
// Limit: bytes: what is read and written. Share reached: not yet measured.
#pragma once

#include <algorithm>
#include <span>

#include "kernels/batch.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kCopyThreads = 256;

struct GatherRowsArgs {
  std::byte* out = nullptr;               // [num_rows, row_bytes]
  const std::byte* x = nullptr;           // rows `stride_bytes` apart
  const std::int32_t* indices = nullptr;  // [num_rows]
  std::int64_t num_rows = 0, row_bytes = 0, stride_bytes = 0;
};

// Unit: uint4, or the element where rows are not whole vectors.
template <class Unit>
__global__ void __launch_bounds__(kCopyThreads) gather_rows_kernel(const GatherRowsArgs args) {
  constexpr std::int64_t kBytes = sizeof(Unit);
  const std::int64_t units = args.row_bytes / kBytes, index = grid_thread<kCopyThreads>();
  if (index >= args.num_rows * units) return;
  const std::int64_t row = index / units, byte = index % units * kBytes;
  *reinterpret_cast<Unit*>(args.out + row * args.row_bytes + byte) =
      *reinterpret_cast<const Unit*>(args.x + args.indices[row] * args.stride_bytes + byte);
}

/// out[R, H] = x[rows]: R rows of H elements of A, gathered from rows `x_stride` elements apart.
template <class A>
inline void gather_rows(A* out, const A* x, std::int64_t x_stride, const std::int32_t* rows, int num_rows,
                        int cols, dev::stream_t stream) {
  if (num_rows == 0 || cols == 0) return;
  const GatherRowsArgs args{.out = reinterpret_cast<std::byte*>(out),
                            .x = reinterpret_cast<const std::byte*>(x),
                            .indices = rows,
                            .num_rows = num_rows,
                            .row_bytes = std::int64_t{cols} * std::int64_t{sizeof(A)},
                            .stride_bytes = x_stride * std::int64_t{sizeof(A)}};
  const bool vectors = vectors_fit(out, cols) && vectors_fit(x, x_stride);
  const std::int64_t unit_bytes = vectors ? sizeof(uint4) : sizeof(A);
  dev::launch(vectors ? gather_rows_kernel<uint4> : gather_rows_kernel<A>,
              grid_for<kCopyThreads>(num_rows * (args.row_bytes / unit_bytes)), dim3(kCopyThreads), 0, stream,
              args);
}

/// Where the layers of a cache start; passed by value, so that a launch needs no memory of its own.
struct CacheLayers {
  static constexpr int kMax = 128;
  std::byte* data[kMax] = {};
};

struct CopyBlocksArgs {
  CacheLayers layers;
  const BlockCopy* copies = nullptr;  // in device memory
  int num_copies = 0;
  std::int64_t block_bytes = 0;
};

// A thread makes every copy of its own bytes of a block, in order: a copy may read what an earlier one wrote,
// and no other thread touches those bytes. Blocks in y are layers.
template <class Unit>
__global__ void __launch_bounds__(kCopyThreads)
    copy_kv_blocks_kernel(const __grid_constant__ CopyBlocksArgs args) {
  const std::int64_t byte = grid_thread<kCopyThreads>() * std::int64_t{sizeof(Unit)};
  if (byte >= args.block_bytes) return;
  std::byte* const layer = args.layers.data[blockIdx.y] + byte;
  for (int i = 0; i < args.num_copies; ++i) {
    const BlockCopy copy = args.copies[i];
    *reinterpret_cast<Unit*>(layer + copy.target * args.block_bytes) =
        *reinterpret_cast<const Unit*>(layer + copy.source * args.block_bytes);
  }
}

/// Copies whole blocks of `block_bytes` (a multiple of 4) within each layer, in order: a source may be an
/// earlier target. `layers` is read before this returns.
inline void copy_kv_blocks(std::span<std::byte* const> layers, const BlockCopy* copies, int num_copies,
                           std::int64_t block_bytes, dev::stream_t stream) {
  if (num_copies == 0 || block_bytes == 0) return;
  for (std::size_t first = 0; first < layers.size(); first += CacheLayers::kMax) {
    const std::size_t count = std::min<std::size_t>(layers.size() - first, CacheLayers::kMax);
    CopyBlocksArgs args{.layers = {}, .copies = copies, .num_copies = num_copies, .block_bytes = block_bytes};
    bool vectors = block_bytes % 16 == 0;
    for (std::size_t i = 0; i < count; ++i) {
      args.layers.data[i] = layers[first + i];
      vectors = vectors && reinterpret_cast<std::uintptr_t>(layers[first + i]) % 16 == 0;
    }
    dim3 grid = grid_for<kCopyThreads>(block_bytes / (vectors ? 16 : 4));
    grid.y = static_cast<unsigned>(count);
    dev::launch(vectors ? copy_kv_blocks_kernel<uint4> : copy_kv_blocks_kernel<std::uint32_t>, grid,
                dim3(kCopyThreads), 0, stream, args);
  }
}

template <class To, class From>
struct ConvertArgs {
  To* out = nullptr;
  const From* x = nullptr;
  std::int64_t count = 0;
};

// The last thread of the vector form takes the rest element by element.
template <class To, class From, int V>
__global__ void __launch_bounds__(kCopyThreads) convert_kernel(const ConvertArgs<To, From> args) {
  const std::int64_t begin = grid_thread<kCopyThreads>() * V;
  if (begin + V <= args.count) {
    float f[V];
    load_elements(args.x + begin, f);
    store_elements(args.out + begin, f);
  } else {
    for (std::int64_t i = begin; i < args.count; ++i) args.out[i] = from_f32<To>(to_f32(args.x[i]));
  }
}

/// out[0 .. count) = x, rounded to To (bf16 or float).
template <class To, class From>
inline void convert(To* out, const From* x, std::int64_t count, dev::stream_t stream) {
  if (count == 0) return;
  const bool vectors = vectors_fit(out, 0) && vectors_fit(x, 0);
  const int width = vectors ? 8 : 1;
  dev::launch(vectors ? convert_kernel<To, From, 8> : convert_kernel<To, From, 1>,
              grid_for<kCopyThreads>((count + width - 1) / width), dim3(kCopyThreads), 0, stream,
              ConvertArgs<To, From>{.out = out, .x = x, .count = count});
}

}  // namespace redline::cuda
