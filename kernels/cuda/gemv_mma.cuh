// out[M, N] = x[M, K] W[N, K]^T for M up to 16 tokens of bf16, on tensor cores: mma.m16n8k16 with 16 rows of
// W as A and 8 tokens as B, so that M tokens cost as many instructions as one.
//
// Weights go from memory to registers directly: nobody else needs them. A sum over k may take k in any order,
// so a lane loads 16 contiguous bytes of its rows and calls them its fragments; x is read in the order that
// matches, through L1. A block of 8 warps owns kTiles tiles of 16 rows and divides K among its warps; their
// sums meet in shared memory. Per 64-byte chunk of a row: lane (g, t) of the fragment's 8 x 4 grid loads
// bytes [16 t, 16 t + 16) of rows g and g + 8.
//   BF16: those are two k16 fragments.
//   Q8_0: a chunk is two groups; lanes t and t ^ 2 exchange halves, so that a lane holds 8 bytes of each.
//   Q4:   a chunk is four groups, one a lane; the four lanes transpose their words, so that a lane holds
//         8 nibbles of each.
// Then a fragment never mixes groups, and a group's product is scaled in f32 after its two mma.
// With kSiluMul rows g are gate and rows g + 8 up.
//
// Numerics: integers widen to bf16 exactly; products are exact; sums are f32, by group, then over K, then
// over warps in order. Q4_1's minimum multiplies the sum of x over the group, an mma with ones.
// Limit: bytes of W. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/linear_args.cuh"
#include "kernels/cuda/silu_mul.cuh"

namespace redline::cuda {

inline constexpr int kGemvWarps = 8;
inline constexpr int kGemvMaxTokens = 16;

/// Columns in 64 bytes of a row.
template <DType kType>
inline constexpr int kChunkColumns = kType == DType::kBF16   ? 32
                                     : kType == DType::kQ8_0 ? 64
                                                             : 128;

/// A lane's share of a chunk of one row: 16 bytes, and the scale of the group that they belong to (f16, or
/// f16 d and m).
struct RowChunk {
  uint4 quants;
  std::uint32_t scale;
};

// Columns [col, ...) of `row`; zeros past the end of the row.
template <DType kType>
DEV_INLINE RowChunk load_chunk(const WeightArrays& weight, std::int64_t row, std::int64_t col) {
  RowChunk chunk{make_uint4(0, 0, 0, 0), 0};
  if (col >= weight.cols) return chunk;
  const std::int64_t element = row * weight.cols + col;
  if constexpr (kType == DType::kBF16) {
    chunk.quants = dev::ld_nc_v4(weight.quants + 2 * element);
  } else {
    chunk.quants = dev::ld_nc_v4(weight.quants + (kType == DType::kQ8_0 ? element : element / 2));
    const std::int64_t group = element / kGroup;
    if constexpr (kType == DType::kQ4_1)
      chunk.scale = reinterpret_cast<const std::uint32_t*>(weight.scales)[group];
    else
      chunk.scale = reinterpret_cast<const std::uint16_t*>(weight.scales)[group];
  }
  return chunk;
}

// After this, words [4 / n j, 4 / n (j + 1)) of `words` are the lane's of group j of the chunk's n.
template <DType kType>
DEV_INLINE void exchange(const uint4& quants, std::uint32_t (&words)[4]) {
  const bool odd = lane_index() & 1, upper = lane_index() & 2;
  words[0] = quants.x, words[1] = quants.y, words[2] = quants.z, words[3] = quants.w;
  if constexpr (kType == DType::kQ4_0 || kType == DType::kQ4_1) {
    // Transposes 2 x 2 blocks of words between neighbours.
    const std::uint32_t even_pair = __shfl_xor_sync(kAllLanes, odd ? words[0] : words[1], 1);
    const std::uint32_t odd_pair = __shfl_xor_sync(kAllLanes, odd ? words[2] : words[3], 1);
    (odd ? words[0] : words[1]) = even_pair;
    (odd ? words[2] : words[3]) = odd_pair;
  }
  if constexpr (kType != DType::kBF16) {
    const std::uint32_t first = __shfl_xor_sync(kAllLanes, upper ? words[0] : words[2], 2);
    const std::uint32_t second = __shfl_xor_sync(kAllLanes, upper ? words[1] : words[3], 2);
    (upper ? words[0] : words[2]) = first;
    (upper ? words[1] : words[3]) = second;
  }
}

// Four signed bytes to two bf16 pairs. q ^ 0x80 = q + 128 in the low byte of 2^23 is an exact f32; so is the
// difference, whose 8 significant bits fit bf16.
DEV_INLINE void widen_bytes(std::uint32_t bytes, std::uint32_t& low, std::uint32_t& high) {
  const std::uint32_t biased = bytes ^ 0x80808080u;
  std::uint32_t f[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
    f[i] = __float_as_uint(__uint_as_float(__byte_perm(biased, 0x4b000000u, 0x7440u | i)) - 8388736.0f);
  low = __byte_perm(f[0], f[1], 0x7632);
  high = __byte_perm(f[2], f[3], 0x7632);
}

// The nibbles at bits [0, 4) and [16, 20) of `word` to a bf16 pair, less `zero`: 0x4300 | q is 128 + q.
template <int kZero>
DEV_INLINE std::uint32_t widen_nibbles(std::uint32_t word) {
  const std::uint32_t biased = (word & 0x000f000fu) | 0x43004300u;
  return bits_as<std::uint32_t>(
      __hsub2(bits_as<__nv_bfloat162>(biased), __float2bfloat162_rn(128.0f + kZero)));
}

// The bf16 pairs of group j: columns c, c + 1; c + 2, c + 3; then two more, where x_fragment() finds them.
template <DType kType>
DEV_INLINE void widen(const std::uint32_t (&words)[4], int j, std::uint32_t (&pairs)[4]) {
  if constexpr (kType == DType::kBF16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = words[i];
  } else if constexpr (kType == DType::kQ8_0) {
    widen_bytes(words[2 * j], pairs[0], pairs[1]);
    widen_bytes(words[2 * j + 1], pairs[2], pairs[3]);
  } else {
    constexpr int kZero = kType == DType::kQ4_0 ? 8 : 0;
    const std::uint32_t low = __byte_perm(words[j], 0, 0x4140), high = __byte_perm(words[j], 0, 0x4342);
    pairs[0] = widen_nibbles<kZero>(low);
    pairs[1] = widen_nibbles<kZero>(high);
    pairs[2] = widen_nibbles<kZero>(low >> 4);
    pairs[3] = widen_nibbles<kZero>(high >> 4);
  }
}

// The lane's 8 elements of one token's row over a chunk's group that starts at column `col`, zeros past the
// end; null: zeros.
template <DType kType>
DEV_INLINE uint4 x_fragment(const bf16* x, std::int64_t col, std::int64_t cols) {
  const int t = lane_index() % 4;
  uint4 pairs = make_uint4(0, 0, 0, 0);
  if constexpr (kType == DType::kBF16) {
    col += 8 * t;
    if (x != nullptr && col < cols) pairs = dev::ld_v4(x + col);
  } else if constexpr (kType == DType::kQ8_0) {
    if (x != nullptr && col < cols) pairs = dev::ld_v4(x + col + 16 * (t & 1) + 8 * (t >> 1));
  } else if (x != nullptr && col < cols) {
    const uint2 low = load_8_bytes(x + col + 4 * t), high = load_8_bytes(x + col + 16 + 4 * t);
    pairs = make_uint4(low.x, low.y, high.x, high.y);
  }
  return pairs;
}

// d += the product of 16 rows (g: `low`, g + 8: `high`) with 8 tokens over one group.
DEV_INLINE void multiply_group(float (&d)[4], const std::uint32_t (&low)[4], const std::uint32_t (&high)[4],
                               const uint4& x) {
  const std::uint32_t first[4] = {low[0], high[0], low[1], high[1]};
  const std::uint32_t second[4] = {low[2], high[2], low[3], high[3]};
  dev::mma_bf16_16816(d, first, x.x, x.y);
  dev::mma_bf16_16816(d, second, x.z, x.w);
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
    for (int half = 0; half < 2; ++half) {  // rows past the end repeat the last: never written
      const std::int64_t output = first_output + tile * kTileOutputs + g + (kSilu ? 0 : 8 * half);
      rows[tile][half] = (output < n_cols ? output : n_cols - 1) + (kSilu ? half * n_cols : 0);
    }
  const bf16* x[kTokenTiles];
#pragma unroll
  for (int i = 0; i < kTokenTiles; ++i)
    x[i] = 8 * i + g < args.num_tokens ? args.x + (8 * i + g) * args.x_stride : nullptr;

  float sum[kTiles][kTokenTiles][4] = {};
  for (std::int64_t first = std::int64_t{warp_index()} * kChunkCols; first < k;
       first += kUnroll * kGemvWarps * kChunkCols) {
    RowChunk chunks[kUnroll][kTiles][2];
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
      std::uint32_t words[kTiles][2][4];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) exchange<kType>(chunks[u][tile][half].quants, words[tile][half]);
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        uint4 tokens[kTokenTiles];
        float token_sum[kTokenTiles][4] = {};
#pragma unroll
        for (int i = 0; i < kTokenTiles; ++i) {
          tokens[i] = x_fragment<kType>(x[i], col + j * kGroup, k);
          if constexpr (kType == DType::kQ4_1) {
            constexpr std::uint32_t kOnes[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
            multiply_group(token_sum[i], kOnes, kOnes, tokens[i]);
          }
        }
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          std::uint32_t low[4], high[4];
          widen<kType>(words[tile][0], j, low);
          widen<kType>(words[tile][1], j, high);
          if constexpr (kType == DType::kBF16) {
#pragma unroll
            for (int i = 0; i < kTokenTiles; ++i) multiply_group(sum[tile][i], low, high, tokens[i]);
          } else {
            const int owner = 4 * g + j * (4 / kGroups);  // the lane that loaded the group's scales
            float d[2], m[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const float2 pair = unpack_f16x2(__shfl_sync(kAllLanes, chunks[u][tile][half].scale, owner));
              d[half] = pair.x;
              m[half] = pair.y;
            }
#pragma unroll
            for (int i = 0; i < kTokenTiles; ++i) {
              float product[4] = {};
              multiply_group(product, low, high, tokens[i]);
#pragma unroll
              for (int e = 0; e < 4; ++e) {
                sum[tile][i][e] += d[e / 2] * product[e];
                if constexpr (kType == DType::kQ4_1) sum[tile][i][e] += m[e / 2] * token_sum[i][e];
              }
            }
          }
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
         args.weight.dtype != DType::kF16 && args.weight.cols % 8 == 0 && vectors_fit(args.x, args.x_stride);
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
  if constexpr (kType == DType::kBF16) {
    if (args.num_tokens <= 2)  // x is cheap: small blocks balance best
      launch(gemv_mma_kernel<kType, kEpilogue, 1, 4, 1, Out>, 1);
    else if (args.num_tokens <= 8)  // two tiles share each read of x
      launch(gemv_mma_kernel<kType, kEpilogue, 2, 2, 1, Out>, 2);
    else
      launch(gemv_mma_kernel<kType, kEpilogue, 2, 2, 2, Out>, 2);
  } else if (args.num_tokens <= 8) {  // what is unpacked fills the registers
    launch(gemv_mma_kernel<kType, kEpilogue, 1, 4, 1, Out>, 1);
  } else {
    launch(gemv_mma_kernel < kType, kEpilogue, 1, kType == DType::kQ4_1 ? 1 : 2, 2, Out >, 1);
  }
}

}  // namespace redline::cuda
