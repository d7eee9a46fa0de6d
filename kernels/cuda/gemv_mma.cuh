// out[M, N] = x[M, K] W[N, K]^T for M up to 16 tokens of bf16, on tensor cores (gemv_fragments.cuh), so that
// M tokens cost as many instructions as one.
//
// Weights go from memory to registers directly: nobody else needs them; x is read through L1. A block of 8
// warps owns kTiles tiles of 16 rows and deals K out among its warps in 64-byte chunks; their sums meet in
// shared memory. With kSiluMul a tile's rows g are gate and rows g + 8 up.
//
// Numerics: sums are f32, by group, then over a warp's chunks, then over warps in order: the same for every
// M. Limit: bytes of W. Share reached on an H100 SXM (3.35 TB/s by its vendor, 3.06 to 3.08 by a plain read),
// 2026-11-23, docs/bench/h100.jsonl, M = 1: matrices of an 8B model bf16 2.56 to 2.89 TB/s, q8_0 1.76
// to 2.70, q4_0 1.19 to 2.00; of a 1B model without its head 2.0 to 2.75, 1.1 to 1.9, 0.6 to 1.0.
#pragma once

#include "kernels/cuda/gemv_fragments.cuh"
#include "kernels/cuda/silu_mul.cuh"

namespace redline::cuda {

inline constexpr int kGemvWarps = 8;
inline constexpr int kGemvMaxTokens = 16;

/// A lane's share of a chunk of one row: 16 bytes, their high bits, and a word of its scales.
template <DType kType>
struct RowChunk : HighBits<kType> {
  uint4 quants;
  std::uint32_t scale;
};

// Columns [col, ...) of `row`; zeros past the end of the row.
template <DType kType>
DEV_INLINE RowChunk<kType> load_chunk(const WeightArrays& weight, std::int64_t row, std::int64_t col) {
  RowChunk<kType> chunk{};
  if (col >= weight.cols) return chunk;
  const std::int64_t element = row * weight.cols + col;
  if constexpr (!kIsQuantized<kType>) {
    chunk.quants = dev::ld_nc_v4(weight.quants + 2 * element);
  } else {
    chunk.quants = dev::ld_nc_v4(weight.quants + (kType == DType::kQ8_0 ? element : element / 2));
    chunk.scale = load_scale_word<kType>(weight, element);
    if constexpr (kType == DType::kQ6_K) {
      const uint2 high = load_8_bytes(weight.high + element / 128 * 32 + lane_index() % 4 * 8);
      chunk.high[0] = high.x, chunk.high[1] = high.y;
    }
  }
  return chunk;
}

/// kTiles: tiles of 16 rows a block owns. kUnroll: chunks of each that a lane has in flight. kTokenTiles: 1
/// for up to 8 tokens, 2 for up to 16.
template <DType kType, Epilogue kEpilogue, int kTiles, int kUnroll, int kTokenTiles, class Out>
__global__ void __launch_bounds__(kGemvWarps* kWarpSize, 2)
    gemv_mma_kernel(const LinearArgs<bf16, Out> args, const std::int64_t n_cols) {
  constexpr bool kSilu = kEpilogue == Epilogue::kSiluMul;
  constexpr int kChunkCols = kChunkColumns<kType>, kGroups = kChunkCols / kGroup;
  constexpr int kTileOutputs = kSilu ? 8 : 16, kTokens = 8 * kTokenTiles;
  const int g = lane_index() / 4, t = lane_index() % 4;
  const std::int64_t k = args.weight.cols;
  const std::int64_t first_output = std::int64_t{blockIdx.x} * kTiles * kTileOutputs;

  std::int64_t rows[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      rows[tile][half] =
          weight_row<kEpilogue>(std::int64_t{blockIdx.x} * kTiles + tile, g + 8 * half, n_cols);
  const bf16* x[kTokenTiles];
#pragma unroll
  for (int i = 0; i < kTokenTiles; ++i)
    x[i] = 8 * i + g < args.num_tokens ? args.x + (8 * i + g) * args.x_stride : nullptr;

  float sum[kTiles][kTokenTiles][4] = {};
  for (std::int64_t first = std::int64_t{warp_index()} * kChunkCols; first < k;
       first += kUnroll * kGemvWarps * kChunkCols) {
    RowChunk<kType> chunks[kUnroll][kTiles][2];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          chunks[u][tile][half] = load_chunk<kType>(
              args.weight, rows[tile][half], first + u * kGemvWarps * kChunkCols + t * (kChunkCols / 4));
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t col = first + u * kGemvWarps * kChunkCols;
      RowWords<kType> words[kTiles][2];
      ChunkScales<kType> chunk_scales[kTiles][2];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const RowChunk<kType>& chunk = chunks[u][tile][half];
          exchange<kType>(chunk.quants, words[tile][half].of);
          chunk_scales[tile][half] = exchange_scales<kType>(chunk.scale, warp_index() % 2 == 1);
          if constexpr (kType == DType::kQ6_K)
            words[tile][half].high[0] = chunk.high[0], words[tile][half].high[1] = chunk.high[1];
        }
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        TokenFragment tokens[kTokenTiles];
#pragma unroll
        for (int i = 0; i < kTokenTiles; ++i)
          tokens[i] = token_fragment<kType>(x_fragment<kType>(x[i], col + j * kGroup, k));
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          float2 scales[2] = {};
          if constexpr (kIsQuantized<kType>) {
#pragma unroll
            for (int half = 0; half < 2; ++half)
              scales[half] = group_scales<kType>(chunk_scales[tile][half], j);
          }
          const RowFragment<kType> fragment = row_fragment<kType>(words[tile][0], words[tile][1], j);
#pragma unroll
          for (int i = 0; i < kTokenTiles; ++i) add_product<kType>(sum[tile][i], fragment, tokens[i], scales);
        }
      }
    }
  }

  DEV_SHARED(float, partial, [kGemvWarps][kTiles][kTokens][16]);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kTokenTiles; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        partial[warp_index()][tile][8 * i + 2 * t + e % 2][g + 8 * (e / 2)] = sum[tile][i][e];
  __syncthreads();
  for (int i = thread_index(); i < kTiles * kTokens * kTileOutputs; i += kGemvWarps * kWarpSize) {
    const int row = i % kTileOutputs, token = i / kTileOutputs % kTokens, tile = i / kTileOutputs / kTokens;
    const std::int64_t output = first_output + tile * kTileOutputs + row;
    if (token >= args.num_tokens || output >= n_cols) continue;
    float value = 0, up = 0;
#pragma unroll
    for (int warp = 0; warp < kGemvWarps; ++warp) {
      value += partial[warp][tile][token][row];
      if constexpr (kSilu) up += partial[warp][tile][token][row + 8];
    }
    if constexpr (kSilu) value = silu(value) * up;
    args.out[token * args.out_stride + output] = from_f32<Out>(value);
  }
}

/// Whether launch_gemv_mma takes these: types, M, K, alignments.
template <class A, class Out>
inline bool fits_gemv_mma(const LinearArgs<A, Out>& args) {
  return std::is_same_v<A, bf16> && args.num_tokens <= kGemvMaxTokens && args.weight.dtype != DType::kF32 &&
         args.weight.cols % 8 == 0 && vectors_fit(args.x, args.x_stride);
}

template <DType kType, Epilogue kEpilogue, class Out>
inline void launch_gemv_mma(const LinearArgs<bf16, Out>& args, dev::stream_t stream) {
  constexpr int kTileOutputs = kEpilogue == Epilogue::kSiluMul ? 8 : 16;
  const std::int64_t n = output_cols<kEpilogue>(args);
  const auto launch = [&](auto* kernel, int tiles) {
    const std::int64_t outputs = tiles * kTileOutputs;
    dev::launch(kernel, dim3(static_cast<unsigned>((n + outputs - 1) / outputs)),
                dim3(kGemvWarps * kWarpSize), 0, stream, args, n);
  };
  if constexpr (!kIsQuantized<kType>) {
    if (args.num_tokens <= 2)  // x is cheap: small blocks balance best
      launch(gemv_mma_kernel<kType, kEpilogue, 1, 4, 1, Out>, 1);
    else if (args.num_tokens <= 8)  // two tiles share each read of x
      launch(gemv_mma_kernel<kType, kEpilogue, 2, 2, 1, Out>, 2);
    else
      launch(gemv_mma_kernel<kType, kEpilogue, 2, 2, 2, Out>, 2);
  } else if (args.num_tokens <= 8) {  // what is unpacked fills the registers
    constexpr int kUnroll = kType == DType::kQ6_K ? 2 : kType == DType::kQ4_K ? 3 : 4;
    launch(gemv_mma_kernel<kType, kEpilogue, 1, kUnroll, 1, Out>, 1);
  } else {
    constexpr int kUnroll = has_minimum(kType) || kType == DType::kQ6_K ? 1 : 2;
    launch(gemv_mma_kernel<kType, kEpilogue, 1, kUnroll, 2, Out>, 1);
  }
}

}  // namespace redline::cuda
