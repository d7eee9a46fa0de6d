// out[M, N] = x[M, K] W[N, K]^T for up to 128 tokens of bf16 and W quantised, its packed bytes read once: for
// more tokens than gemm_skinny.cuh takes in a tile, where tensor cores set the pace and every warp's
// unpacking its own rows would slow them down.
//
// A block of 8 warps owns a tile of 256 rows of W by 8 kTokenTiles tokens and walks along K in stages of 64
// columns. Packed rows and x come by cp.async two stages ahead of their product, scales and high bits through
// registers. One stage ahead, each warp unpacks 32 rows into shared memory, as the fragments that
// gemv_fragments.cuh multiplies: bf16 codes, exact, and the scales of their groups beside them; of types with
// a minimum also the sums of x over groups. A warp multiplies 64 rows by half of the tokens. Tiles are dealt
// out to the blocks by chunks of 64 packed bytes a row (stage_split.cuh).
//
// Numerics: as gemm_skinny.cuh and in its order of sums: for M from 17 to 128 the two give the same bits.
// Limit: tensor cores through mma.sync, reads of x and fragments from shared memory. Share reached: not yet
// measured.
#pragma once

#include "kernels/cuda/gemm_skinny.cuh"

namespace redline::cuda {

inline constexpr int kPackedMaxTokens = 128;

template <DType kType, int kTokenTiles>
struct PackedShape {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kWarpTiles = 4, kWarpTokenTiles = kTokenTiles / 2;  // that a warp multiplies
  static constexpr int kUnpackedTiles = 2;                                 // that it unpacks
  static constexpr int kTilesAtOnce = kType == DType::kQ8_0 || kType == DType::kQ4_0 ? 4 : 2;  // by registers
  static constexpr int kTiles = kWarps * kUnpackedTiles;
  static constexpr int kRows = kTiles * kTileRows;
  static constexpr int kTokens = 8 * kTokenTiles;
  static constexpr int kTileValues = kRows * kTokens;
  static constexpr int kCols = kChunkColumns<kType>;  // that blocks share out
  static constexpr int kGroups = 2;                   // of a stage
  static constexpr int kStageCols = kGroups * kGroup;
  static constexpr int kRowBytes = kType == DType::kQ8_0 ? 64 : 32;  // of a stage's quants
  static constexpr int kFragmentBytes = 2 * kTileRows * kGroup;      // a tile's of a group
  // Double buffers, x in three.
  static constexpr int kQuantBytes = kRows * kRowBytes;
  static constexpr int kUnpackedBytes = kTiles * kGroups * kFragmentBytes;
  static constexpr int kScaleBytes = kGroups * kRows * static_cast<int>(sizeof(float2));
  static constexpr int kSumBytes =
      has_minimum(kType) ? kGroups * kTokens * static_cast<int>(sizeof(float)) : 0;
  static constexpr int kXBytes = kGroups * kTokens * 64;
  static constexpr int kSharedBytes =
      2 * (kQuantBytes + kUnpackedBytes + kScaleBytes + kSumBytes) + 3 * kXBytes;
  static_assert(kSharedBytes <= 163 * 1024, "what a block may have on sm_80");
};

/// Where stage n of a block lies.
template <class Shape>
struct PackedSlots {
  std::byte* base;

  DEV_INLINE std::byte* unpacked(int n) const { return base + n % 2 * Shape::kUnpackedBytes; }
  DEV_INLINE std::byte* quants(int n) const {
    return base + 2 * Shape::kUnpackedBytes + n % 2 * Shape::kQuantBytes;
  }
  DEV_INLINE std::byte* x(int n) const {
    return base + 2 * (Shape::kUnpackedBytes + Shape::kQuantBytes) + n % 3 * Shape::kXBytes;
  }
  /// [kGroups, kRows]
  DEV_INLINE float2* scales(int n) const {
    return reinterpret_cast<float2*>(x(0) + 3 * Shape::kXBytes + n % 2 * Shape::kScaleBytes);
  }
  /// [kGroups, kTokens]
  DEV_INLINE float* sums(int n) const {
    return reinterpret_cast<float*>(x(0) + 3 * Shape::kXBytes + 2 * Shape::kScaleBytes +
                                    n % 2 * Shape::kSumBytes);
  }
};

/// Where 16 bytes of a row of quants lie within its stage: so that a fragment's lanes find each bank once.
template <DType kType>
DEV_INLINE int swizzled_quants(int piece, int row) {
  return kType == DType::kQ8_0 ? piece ^ (row & 2) : piece ^ (row >> 2 & 1);
}

// Starts copying a stage's quants and x; zeros past K and past M.
template <DType kType, Epilogue kEpilogue, class Shape, class Out>
DEV_INLINE void copy_packed_stage(const SkinnyArgs<Out>& args, const StageCursor& stage, std::byte* quants,
                                  std::byte* x) {
  const LinearArgs<bf16, Out>& linear = args.linear;
  const int k = static_cast<int>(linear.weight.cols), first_col = stage.step * Shape::kStageCols;
  constexpr int kPieces = Shape::kRowBytes / 16, kPieceCols = Shape::kStageCols / kPieces;
  const int first_tile = stage.tile / args.token_tiles * Shape::kTiles;
#pragma unroll 1
  for (int i = thread_index(); i < Shape::kRows * kPieces; i += Shape::kThreads) {
    const int row = i / kPieces, piece = i % kPieces, col = first_col + piece * kPieceCols;
    const std::int64_t source =
        weight_row<kEpilogue>(first_tile + row / kTileRows, row % kTileRows, args.n_cols);
    const std::int64_t element = source * k + (col < k ? col : 0);
    dev::cp_async_16_zfill(quants + row * Shape::kRowBytes + swizzled_quants<kType>(piece, row) * 16,
                           linear.weight.quants + element * 16 / kPieceCols, col < k);
  }
  const int first_token = stage.tile % args.token_tiles * Shape::kTokens;
#pragma unroll 1
  for (int i = thread_index(); i < Shape::kTokens * Shape::kGroups * 4; i += Shape::kThreads) {
    const int token = i / (Shape::kGroups * 4), group = i / 4 % Shape::kGroups, piece = i % 4;
    const int col = first_col + group * kGroup + piece * 8;
    const bool exists = first_token + token < linear.num_tokens && col < k;
    const std::int64_t element = exists ? (first_token + token) * linear.x_stride + col : 0;
    dev::cp_async_16_zfill(x + (group * Shape::kTokens + token) * 64 + swizzled_piece(piece, token) * 16,
                           linear.x + element, exists);
  }
  dev::cp_async_commit();
}

/// What a thread carries of a stage to its unpacking, as stored: the scales of one row, and its lane's high
/// bits of the rows that it unpacks.
template <DType kType>
struct CarriedBits {
  std::uint32_t scales[kType == DType::kQ4_K ? 3 : 2];
  std::uint32_t high[2][2];
};

template <DType kType, Epilogue kEpilogue, class Shape, class Out>
DEV_INLINE CarriedBits<kType> load_carried(const SkinnyArgs<Out>& args, const StageCursor& stage) {
  static_assert(Shape::kThreads == Shape::kRows);
  const WeightArrays& weight = args.linear.weight;
  CarriedBits<kType> bits = {};
  const int first_col = stage.step * Shape::kStageCols;
  const int first_tile = stage.tile / args.token_tiles * Shape::kTiles;
  if (first_col >= weight.cols) return bits;
  const int thread = dev::recomputed(thread_index()), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const auto element = [&](int row) {
    return weight_row<kEpilogue>(first_tile + row / kTileRows, row % kTileRows, args.n_cols) * weight.cols +
           first_col;
  };
  const std::int64_t first = element(thread);
  if constexpr (kType == DType::kQ4_K) {
    const auto* const record =
        reinterpret_cast<const std::uint32_t*>(weight.scales) + first / kSuperGroup * 4;
    const int group = first_col % kSuperGroup / kGroup;
    bits.scales[0] = record[0];
    bits.scales[1] = record[1 + group / 4] >> (group % 4 * 8);
    bits.scales[2] = record[3] >> (group * 4);
  } else {
#pragma unroll
    for (int j = 0; j < Shape::kGroups; ++j)
      if (first_col + j * kGroup < weight.cols)
        bits.scales[j] = load_scale_word<kType>(weight, first + j * kGroup);
  }
  if constexpr (kType == DType::kQ6_K) {
#pragma unroll
    for (int i = 0; i < Shape::kUnpackedTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = (warp * Shape::kUnpackedTiles + i) * kTileRows + lane / 4 + 8 * half;
        const std::int64_t at = element(row);
        bits.high[i][half] = *reinterpret_cast<const std::uint32_t*>(weight.high + at / 128 * 32 +
                                                                     lane % 4 * 8 + at % 128 / 16);
      }
  }
  return bits;
}

// Of the stage's group j.
template <DType kType>
DEV_INLINE float2 carried_scales(const CarriedBits<kType>& bits, int j) {
  if constexpr (kType == DType::kQ4_K) {
    return q4_k_scales(bits.scales[0], bits.scales[1], bits.scales[2], j);
  } else if constexpr (kType == DType::kQ6_K) {
    return q6_k_scales(bits.scales[j]);
  } else {
    return unpack_f16x2(bits.scales[j]);
  }
}

// A lane's words of a row's groups.
template <DType kType, class Shape>
DEV_INLINE RowWords<kType> row_words(const std::byte* quants, int row, std::uint32_t high) {
  const int t = lane_index() % 4;
  const std::byte* const from = quants + row * Shape::kRowBytes;
  RowWords<kType> words = {};
#pragma unroll
  for (int j = 0; j < Shape::kGroups; ++j) {
    if constexpr (kType == DType::kQ8_0) {
      const uint2 bytes =
          load_8_bytes(from + swizzled_quants<kType>(2 * j + (t & 1), row) * 16 + 8 * (t >> 1));
      words.of[2 * j] = bytes.x, words.of[2 * j + 1] = bytes.y;
    } else {
      words.of[j] =
          *reinterpret_cast<const std::uint32_t*>(from + swizzled_quants<kType>(j, row) * 16 + 4 * t);
    }
  }
  if constexpr (kType == DType::kQ6_K) words.high[0] = high;
  return words;
}

// The warp's rows of stage n, and its share of the scales and of x's sums.
template <DType kType, class Shape>
DEV_INLINE void unpack_stage(const PackedSlots<Shape>& slots, int n, const CarriedBits<kType>& bits) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < Shape::kUnpackedTiles; ++i) {
    const int tile = warp_index() * Shape::kUnpackedTiles + i, row = tile * kTileRows + g;
    const RowWords<kType> low = row_words<kType, Shape>(slots.quants(n), row, bits.high[i][0]);
    const RowWords<kType> high = row_words<kType, Shape>(slots.quants(n), row + 8, bits.high[i][1]);
#pragma unroll
    for (int j = 0; j < Shape::kGroups; ++j) {
      const RowFragment<kType> rows = row_fragment<kType>(low, high, j);
      std::byte* const to =
          slots.unpacked(n) + (tile * Shape::kGroups + j) * Shape::kFragmentBytes + lane * 16;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const auto& a = rows.parts[0][k];
        dev::st_v4(to + k * kWarpSize * 16, make_uint4(a[0], a[1], a[2], a[3]));
      }
    }
  }
#pragma unroll
  for (int j = 0; j < Shape::kGroups; ++j)
    slots.scales(n)[j * Shape::kRows + thread_index()] = carried_scales(bits, j);
  if constexpr (has_minimum(kType)) {
#pragma unroll 1
    for (int i = warp_index(); i < Shape::kGroups * Shape::kTokens / 8; i += Shape::kWarps) {
      const TokenFragment tokens =
          token_fragment<kType>(shared_x_fragment<kType>(slots.x(n) + (8 * i + g) * 64, g));
      if (g == 0)
        *reinterpret_cast<float2*>(slots.sums(n) + 8 * i + 2 * t) =
            make_float2(tokens.sums[0], tokens.sums[1]);
    }
  }
}

/// The warp's part of a tile: tiles of rows from `tile` on, tokens from `token` on.
struct WarpPart {
  int tile;
  int token;
};

// The warp's tiles of rows from `first` on, Shape::kTilesAtOnce of them, by its tokens over group j.
template <DType kType, class Shape>
DEV_INLINE void multiply_packed_group(float (&sum)[Shape::kWarpTokenTiles][Shape::kWarpTiles][4],
                                      const PackedSlots<Shape>& slots, int n, const WarpPart& part, int j,
                                      int first) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  RowFragment<kType> rows[Shape::kTilesAtOnce];
  float2 scales[Shape::kTilesAtOnce][2];
#pragma unroll
  for (int i = 0; i < Shape::kTilesAtOnce; ++i) {
    const int tile = part.tile + first + i;
    const std::byte* const from =
        slots.unpacked(n) + (tile * Shape::kGroups + j) * Shape::kFragmentBytes + lane * 16;
    const uint4 first_k = dev::ld_v4(from), second_k = dev::ld_v4(from + kWarpSize * 16);
    rows[i] = {
        {{{first_k.x, first_k.y, first_k.z, first_k.w}, {second_k.x, second_k.y, second_k.z, second_k.w}}}};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      scales[i][half] = slots.scales(n)[j * Shape::kRows + tile * kTileRows + g + 8 * half];
  }
  const auto load_tokens = [&](int tile) {
    const int token = j * Shape::kTokens + part.token + 8 * tile;
    TokenFragment tokens{shared_x_fragment<kType>(slots.x(n) + (token + g) * 64, g), {}};
    if constexpr (has_minimum(kType)) {
      const float2 pair = *reinterpret_cast<const float2*>(slots.sums(n) + token + 2 * t);
      tokens.sums[0] = tokens.sums[2] = pair.x;
      tokens.sums[1] = tokens.sums[3] = pair.y;
    }
    return tokens;
  };
  TokenFragment next = load_tokens(0);
#pragma unroll
  for (int tile = 0; tile < Shape::kWarpTokenTiles; ++tile) {
    const TokenFragment tokens = next;
    if (tile + 1 < Shape::kWarpTokenTiles) next = load_tokens(tile + 1);
    dev::schedule_fence();
#pragma unroll
    for (int i = 0; i < Shape::kTilesAtOnce; ++i)
      add_product<kType>(sum[tile][first + i], rows[i], tokens, scales[i]);
  }
}

template <DType kType, class Shape>
DEV_INLINE void multiply_packed_stage(float (&sum)[Shape::kWarpTokenTiles][Shape::kWarpTiles][4],
                                      const PackedSlots<Shape>& slots, int n, const WarpPart& part) {
#pragma unroll 1
  for (int j = 0; j < Shape::kGroups; ++j)
#pragma unroll
    for (int first = 0; first < Shape::kWarpTiles; first += Shape::kTilesAtOnce)
      multiply_packed_group<kType>(sum, slots, n, part, j, first);
}

template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
__global__ void __launch_bounds__(PackedShape<kType, kTokenTiles>::kThreads, 1)
    gemm_packed_kernel(const SkinnyArgs<Out> args) {
  using Shape = PackedShape<kType, kTokenTiles>;
  constexpr int kStages = Shape::kCols / Shape::kStageCols;  // of what blocks share out
  const PackedSlots<Shape> slots{dev::dynamic_smem<std::byte>()};
  DEV_SHARED(unsigned, is_last);
  const int block = static_cast<int>(blockIdx.x);
  const int begin = first_stage(args.split, block) * kStages,
            end = first_stage(args.split, block + 1) * kStages;
  const StageSplit stages{args.split.stages_per_tile * kStages, args.split.num_stages * kStages};
  const WarpPart part{warp_index() / 2 * Shape::kWarpTiles, warp_index() % 2 * Shape::kTokens / 2};

  StageCursor cursor = cursor_at(stages, begin), copied = cursor;
  copy_packed_stage<kType, kEpilogue, Shape>(args, copied, slots.quants(begin), slots.x(begin));
  CarriedBits<kType> carried = load_carried<kType, kEpilogue, Shape>(args, copied);
  float sum[Shape::kWarpTokenTiles][Shape::kWarpTiles][4] = {};
#pragma unroll 1
  for (int stage = begin - 1; stage < end; ++stage) {
    dev::cp_async_wait<0>();
    // All see the stage's fragments and the next one's bytes, and are done with what is written below.
    __syncthreads();
    const bool copies = stage + 2 < end;
    if (copies) {
      advance(copied, stages);
      copy_packed_stage<kType, kEpilogue, Shape>(args, copied, slots.quants(stage + 2), slots.x(stage + 2));
    }
    if (stage + 1 < end) unpack_stage(slots, stage + 1, carried);
    if (copies) carried = load_carried<kType, kEpilogue, Shape>(args, copied);
    if (stage < begin) continue;
    multiply_packed_stage<kType>(sum, slots, stage, part);
    const int tile = cursor.tile;
    advance(cursor, stages);
    if (cursor.step != 0 && stage + 1 < end) continue;
    finish_skinny_tile<Shape, kEpilogue>(args, sum, tile, part.tile, part.token, is_last);
#pragma unroll
    for (int i = 0; i < Shape::kWarpTokenTiles; ++i)
#pragma unroll
      for (int v = 0; v < 4 * Shape::kWarpTiles; ++v) sum[i][v / 4][v % 4] = 0;
  }
}

/// Whether gemm_packed takes these: types, alignments.
template <class A, class Out>
inline bool fits_gemm_packed(const LinearArgs<A, Out>& args) {
  return is_quantized(args.weight.dtype) && fits_gemm_skinny(args);
}

/// Floats of SplitWorkspace::sums for so many multiprocessors; as many of `arrived`.
constexpr std::int64_t packed_workspace_sums(std::int64_t num_multiprocessors) {
  return num_multiprocessors * 2 * 256 * kPackedMaxTokens;
}

template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
inline void launch_gemm_packed(const LinearArgs<bf16, Out>& linear, const SplitWorkspace& workspace,
                               int num_multiprocessors, dev::stream_t stream) {
  using Shape = PackedShape<kType, kTokenTiles>;
  static_assert(Shape::kTileValues * 2 <= packed_workspace_sums(1));
  const auto args = skinny_args<Shape, kEpilogue>(linear, workspace);
  const int blocks = std::min(num_multiprocessors, args.split.num_stages);
  dev::launch(gemm_packed_kernel<kType, kEpilogue, kTokenTiles, Out>, dim3(static_cast<unsigned>(blocks)),
              dim3(Shape::kThreads), Shape::kSharedBytes, stream, args);
}

/// gemv (gemv.cuh) for what fits_gemm_packed allows and any M, meant for M from 65 to kPackedMaxTokens.
/// Launches that share a workspace follow one another in a stream.
template <Epilogue kEpilogue = Epilogue::kNone, class Out>
inline void gemm_packed(const LinearArgs<bf16, Out>& args, const SplitWorkspace& workspace,
                        int num_multiprocessors, dev::stream_t stream) {
  if (args.num_tokens == 0 || args.weight.rows == 0) return;
  with_dtype(args.weight.dtype, [&](auto tag) {
    constexpr DType kType = decltype(tag)::value;
    if constexpr (is_quantized(kType)) {
      if (args.num_tokens <= 96)
        launch_gemm_packed<kType, kEpilogue, 12>(args, workspace, num_multiprocessors, stream);
      else
        launch_gemm_packed<kType, kEpilogue, 16>(args, workspace, num_multiprocessors, stream);
    }
  });
}

}  // namespace redline::cuda
