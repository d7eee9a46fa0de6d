// out[M, N] = x[M, K] W[N, K]^T for some tens of tokens of bf16 and W as it is stored: where reading W still
// sets the pace, but x no longer fits beside it.
//
// A block of 8 warps owns a tile of 128 rows of W (256 where W is quantised: a row then takes more of x) by
// 8 kTokenTiles tokens; a warp owns 16 or 32 of the rows and all of the tokens. Both operands come through a
// ring of stages in shared memory by cp.async, x once for all warps. Rows of W lie there as 64-byte chunks,
// chunk after chunk, x as 64-byte groups, so that 8 lanes that read 16 bytes each touch every bank once; for
// the 8-byte reads of Q4 the halves of a group trade places in every other pair of tokens. Scales go to
// registers, a stage ahead. Tiles are dealt out to the blocks by stages (stage_split.cuh).
//
// Numerics: as gemv_mma.cuh; the order of sums depends on the number of blocks, not on M.
// Limit: bytes of W for few tokens; then reads of x from shared memory, and tensor cores. Reached on an H100
// SXM, 2026-11-23, docs/bench/h100.jsonl: bf16 6144 x 4096 with 16, 32 and 64 tokens 1.8, 1.7 and 1.4 TB/s.
#pragma once

#include <algorithm>

#include "kernels/cuda/gemv_fragments.cuh"
#include "kernels/cuda/silu_mul.cuh"
#include "kernels/cuda/stage_split.cuh"

namespace redline::cuda {

inline constexpr int kSkinnyWarps = 8;
inline constexpr int kSkinnyThreads = kSkinnyWarps * kWarpSize;

template <DType kType, int kTokenTiles>
struct SkinnyShape {
  static constexpr int kThreads = kSkinnyThreads;
  static constexpr int kChunks = kIsQuantized<kType> ? 1 : 2;     // of 64 bytes of a row of W in a stage
  static constexpr int kWarpTiles = kIsQuantized<kType> ? 2 : 1;  // of 16 rows
  static constexpr int kTiles = kSkinnyWarps * kWarpTiles;
  static constexpr int kRows = kTiles * kTileRows;
  static constexpr int kTokens = 8 * kTokenTiles;
  static constexpr int kCols = kChunks * kChunkColumns<kType>;
  static constexpr int kGroups = kCols / kGroup;
  static constexpr int kQuantBytes = kChunks * kRows * 64;
  static constexpr int kHighBytes = kType == DType::kQ6_K ? kRows * 32 : 0;
  static constexpr int kWeightBytes = kQuantBytes + kHighBytes;
  static constexpr int kSlotBytes = kWeightBytes + kGroups * kTokens * 64;
  static constexpr int kBlocks =
      !kIsQuantized<kType> || kTokenTiles == 2 ? 2 : 1;  // a multiprocessor: as registers allow
  static constexpr int kSlots = kBlocks * 4 * kSlotBytes <= 224 * 1024 ? 4 : 3;
  static constexpr int kTileValues = kRows * kTokens;
};

/// What a SplitWorkspace holds for so many multiprocessors: blocks, and sums.
constexpr std::int64_t skinny_workspace_blocks(std::int64_t num_multiprocessors) {
  return 2 * num_multiprocessors;
}
constexpr std::int64_t skinny_workspace_sums(std::int64_t num_multiprocessors) {
  return num_multiprocessors * 2 * 256 * 64;
}

template <class Out>
struct SkinnyArgs {
  LinearArgs<bf16, Out> linear;
  SplitWorkspace workspace;
  StageSplit split;  // a tile of rows with each tile of tokens in turn
  std::int64_t n_cols = 0;
  int token_tiles = 0;
};

/// Where 16 bytes of a token's group lie within its 64.
DEV_INLINE int swizzled_piece(int piece, int token) { return piece ^ (token & 2); }

// Starts copying a stage into `slot`: W's rows, then x; zeros past K and past M.
template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
DEV_INLINE void copy_stage(const SkinnyArgs<Out>& args, const StageCursor& stage, std::byte* slot) {
  using Shape = SkinnyShape<kType, kTokenTiles>;
  const LinearArgs<bf16, Out>& linear = args.linear;
  constexpr int kRowPieces = 4 * Shape::kChunks, kXPieces = 4 * Shape::kGroups;
  const int k = static_cast<int>(linear.weight.cols), first_col = stage.step * Shape::kCols;
  const int first_tile = stage.tile / args.token_tiles * Shape::kTiles;
#pragma unroll 1
  for (int i = thread_index(); i < Shape::kRows * kRowPieces; i += kSkinnyThreads) {
    const int row = i / kRowPieces, chunk = i % kRowPieces / 4, piece = i % 4;
    const std::int64_t source =
        weight_row<kEpilogue>(first_tile + row / kTileRows, row % kTileRows, args.n_cols);
    const int col = first_col + (4 * chunk + piece) * (kChunkColumns<kType> / 4);
    const std::int64_t element = source * k + (col < k ? col : 0);
    dev::cp_async_16_zfill(slot + (chunk * Shape::kRows + row) * 64 + piece * 16,
                           linear.weight.quants + element * 64 / kChunkColumns<kType>, col < k);
  }
  if constexpr (Shape::kHighBytes > 0) {
#pragma unroll 1
    for (int i = thread_index(); i < Shape::kRows * 2; i += kSkinnyThreads) {
      const int row = i / 2, piece = i % 2;
      const std::int64_t source =
          weight_row<kEpilogue>(first_tile + row / kTileRows, row % kTileRows, args.n_cols);
      const std::int64_t element = source * k + (first_col < k ? first_col : 0);
      dev::cp_async_16_zfill(slot + Shape::kQuantBytes + row * 32 + piece * 16,
                             linear.weight.high + element / 4 + piece * 16, first_col < k);
    }
  }
  std::byte* const x_slot = slot + Shape::kWeightBytes;
  const int first_token = stage.tile % args.token_tiles * Shape::kTokens;
#pragma unroll 1
  for (int i = thread_index(); i < Shape::kTokens * kXPieces; i += kSkinnyThreads) {
    const int token = i / kXPieces, group = i % kXPieces / 4, piece = i % 4;
    const int col = first_col + group * kGroup + piece * 8;
    const bool exists = first_token + token < linear.num_tokens && col < k;
    const std::int64_t element = exists ? (first_token + token) * linear.x_stride + col : 0;
    dev::cp_async_16_zfill(x_slot + (group * Shape::kTokens + token) * 64 + swizzled_piece(piece, token) * 16,
                           linear.x + element, exists);
  }
}

// A lane's elements of one token's group, as x_fragment() gives them; of `token` its last three bits tell.
template <DType kType>
DEV_INLINE uint4 shared_x_fragment(const std::byte* group, int token) {
  const int t = lane_index() % 4;
  if constexpr (!kIsQuantized<kType>) {
    return dev::ld_v4(group + swizzled_piece(t, token) * 16);
  } else if constexpr (kType == DType::kQ8_0) {
    return dev::ld_v4(group + swizzled_piece(2 * (t & 1) + (t >> 1), token) * 16);
  } else {
    const int piece = t >> 1, byte = 8 * (t & 1);
    const uint2 low = load_8_bytes(group + swizzled_piece(piece, token) * 16 + byte);
    const uint2 high = load_8_bytes(group + swizzled_piece(2 + piece, token) * 16 + byte);
    return make_uint4(low.x, low.y, high.x, high.y);
  }
}

/// A lane's words of the scales of its rows in one stage, as stored: rows g and g + 8 of each tile of a warp.
template <int kWarpTiles>
struct StageScales {
  bool odd = false;  // whether the stage is the second half of 256 columns
  std::uint32_t of[kWarpTiles][2];
};

template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
DEV_INLINE auto load_scales(const SkinnyArgs<Out>& args, const StageCursor& stage, bool exists) {
  using Shape = SkinnyShape<kType, kTokenTiles>;
  StageScales<Shape::kWarpTiles> scales = {};
  if constexpr (kIsQuantized<kType>) {
    const WeightArrays& weight = args.linear.weight;
    const int col = stage.step * Shape::kCols + lane_index() % 4 * (Shape::kCols / 4);
    scales.odd = stage.step % 2 == 1;
    if (!exists || col >= weight.cols) return scales;
    const int tile = stage.tile / args.token_tiles * Shape::kTiles + warp_index() * Shape::kWarpTiles;
#pragma unroll
    for (int i = 0; i < Shape::kWarpTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = weight_row<kEpilogue>(tile + i, lane_index() / 4 + 8 * half, args.n_cols);
        scales.of[i][half] = load_scale_word<kType>(weight, row * weight.cols + col);
      }
  }
  return scales;
}

// Moves the next group's words to the front, where index 0 finds them: registers cannot be indexed.
template <DType kType>
DEV_INLINE void next_group(RowWords<kType>& words) {
  constexpr int kWords = kType == DType::kQ8_0 ? 2 : 1;  // of a group
#pragma unroll
  for (int i = 0; i + kWords < 4; ++i) words.of[i] = words.of[i + kWords];
  if constexpr (kType == DType::kQ6_K) {
    words.high[0] = words.high[0] >> 16 | words.high[1] << 16;
    words.high[1] >>= 16;
  }
}

template <DType kType, int kTokenTiles, int kWarpTiles>
DEV_INLINE void multiply_stage(float (&sum)[kTokenTiles][kWarpTiles][4], const std::byte* slot,
                               const StageScales<kWarpTiles>& scales) {
  using Shape = SkinnyShape<kType, kTokenTiles>;
  constexpr int kGroups = kChunkColumns<kType> / kGroup;  // of a chunk
  const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
  for (int chunk = 0; chunk < Shape::kChunks; ++chunk) {
    RowWords<kType> words[kWarpTiles][2];
    ChunkScales<kType> chunk_scales[kWarpTiles][2];
#pragma unroll
    for (int i = 0; i < kWarpTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = (warp_index() * kWarpTiles + i) * kTileRows + g + 8 * half;
        exchange<kType>(dev::ld_v4(slot + (chunk * Shape::kRows + row) * 64 + t * 16), words[i][half].of);
        chunk_scales[i][half] = exchange_scales<kType>(scales.of[i][half], scales.odd);
        if constexpr (kType == DType::kQ6_K) {
          const uint2 high = load_8_bytes(slot + Shape::kQuantBytes + row * 32 + t * 8);
          words[i][half].high[0] = high.x, words[i][half].high[1] = high.y;
        }
      }
#pragma unroll 1
    for (int j = 0; j < kGroups; ++j) {  // rolled: what is unpacked ahead would spill
      RowFragment<kType> rows[kWarpTiles];
      float2 scale[kWarpTiles][2] = {};
#pragma unroll
      for (int i = 0; i < kWarpTiles; ++i) {
        rows[i] = row_fragment<kType>(words[i][0], words[i][1], 0);
        if constexpr (kIsQuantized<kType>) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            scale[i][half] = group_scales<kType>(chunk_scales[i][half], j);
            next_group<kType>(words[i][half]);
          }
        }
      }
      const std::byte* const group = slot + Shape::kWeightBytes + (chunk * kGroups + j) * Shape::kTokens * 64;
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        const int token = 8 * tile + g;
        const TokenFragment tokens =
            token_fragment<kType>(shared_x_fragment<kType>(group + token * 64, token));
#pragma unroll
        for (int i = 0; i < kWarpTiles; ++i) add_product<kType>(sum[tile][i], rows[i], tokens, scale[i]);
      }
    }
  }
}

// Writes tiles of rows from `row_tile` on by the 8 tokens from `first_token` on.
template <Epilogue kEpilogue, int kWarpTiles, class Out>
DEV_INLINE void store_skinny_tokens(const SkinnyArgs<Out>& args, const float (&sum)[kWarpTiles][4],
                                    std::int64_t row_tile, int first_token) {
  const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int token = first_token + 2 * t + e;
    if (token >= args.linear.num_tokens) continue;
    Out* const row = args.linear.out + token * args.linear.out_stride;
    const auto store = [&](std::int64_t output, float value) {
      if (output < args.n_cols) row[output] = from_f32<Out>(value);
    };
#pragma unroll
    for (int i = 0; i < kWarpTiles; ++i) {
      const float low = sum[i][e], high = sum[i][2 + e];
      if constexpr (kEpilogue == Epilogue::kSiluMul) {
        store((row_tile + i) * 8 + g, silu(low) * high);
      } else {
        store((row_tile + i) * kTileRows + g, low);
        store((row_tile + i) * kTileRows + g + 8, high);
      }
    }
  }
}

// Writes a tile from its sums, or leaves them for another block to write: those of the warp's tiles of rows
// from `warp_tile` on and of tokens from `warp_token` on.
template <class Shape, Epilogue kEpilogue, int kTokenTiles, int kWarpTiles, class Out>
DEV_INLINE void finish_skinny_tile(const SkinnyArgs<Out>& args,
                                   const float (&sum)[kTokenTiles][kWarpTiles][4], int tile, int warp_tile,
                                   int warp_token, unsigned& is_last) {
  const std::int64_t row_tile = tile / args.token_tiles * Shape::kTiles + warp_tile;
  const int first_token = tile % args.token_tiles * Shape::kTokens + warp_token;
  const TileOwners owners = owners_of(args.split, tile);
  if (owners.first == owners.last) {
#pragma unroll
    for (int i = 0; i < kTokenTiles; ++i)
      store_skinny_tokens<kEpilogue>(args, sum[i], row_tile, first_token + 8 * i);
    return;
  }
  constexpr int kValues = 4 * kWarpTiles, kPart = kTokenTiles / 2;
  const auto left_by = [&](int block, int i, int v) -> float& {
    return sums_left_by(args.workspace, owners, block,
                        Shape::kTileValues)[(i * kValues + v) * Shape::kThreads + thread_index()];
  };
#pragma unroll
  for (int i = 0; i < kTokenTiles; ++i)
#pragma unroll
    for (int v = 0; v < kValues; ++v) left_by(static_cast<int>(blockIdx.x), i, v) = sum[i][v / 4][v % 4];
  if (!arrive_last(args.workspace, owners, Shape::kThreads, is_last)) return;
#pragma unroll 1
  for (int first = 0; first < kTokenTiles; first += kPart) {
    float total[kPart][kWarpTiles][4] = {};
#pragma unroll 1
    for (int block = owners.first; block <= owners.last; ++block)
#pragma unroll
      for (int i = 0; i < kPart; ++i)
#pragma unroll
        for (int v = 0; v < kValues; ++v) total[i][v / 4][v % 4] += left_by(block, first + i, v);
#pragma unroll
    for (int i = 0; i < kPart; ++i)
      store_skinny_tokens<kEpilogue>(args, total[i], row_tile, first_token + 8 * (first + i));
  }
}

template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
__global__ void __launch_bounds__(kSkinnyThreads, SkinnyShape<kType, kTokenTiles>::kBlocks)
    gemm_skinny_kernel(const SkinnyArgs<Out> args) {
  using Shape = SkinnyShape<kType, kTokenTiles>;
  std::byte* const slots = dev::dynamic_smem<std::byte>();
  DEV_SHARED(unsigned, is_last);
  const int block = static_cast<int>(blockIdx.x);
  const int begin = first_stage(args.split, block), end = first_stage(args.split, block + 1);
  StageCursor cursor = cursor_at(args.split, begin), copied = cursor;
  const auto slot_of = [&](int stage) { return slots + (stage - begin) % Shape::kSlots * Shape::kSlotBytes; };
  const auto copy = [&](int stage) {
    if (stage < end) {
      copy_stage<kType, kEpilogue, kTokenTiles>(args, copied, slot_of(stage));
      advance(copied, args.split);
    }
    dev::cp_async_commit();  // also when empty: the waits below count groups
  };
#pragma unroll 1
  for (int i = 0; i < Shape::kSlots - 1; ++i) copy(begin + i);
  auto scales = load_scales<kType, kEpilogue, kTokenTiles>(args, cursor, begin < end);

  float sum[kTokenTiles][Shape::kWarpTiles][4] = {};
#pragma unroll 1
  for (int stage = begin; stage < end; ++stage) {
    dev::cp_async_wait<Shape::kSlots - 2>();
    __syncthreads();  // all see the stage, and are done with the slot that is filled next
    copy(stage + Shape::kSlots - 1);
    const int tile = cursor.tile;
    advance(cursor, args.split);
    const auto next_scales = load_scales<kType, kEpilogue, kTokenTiles>(args, cursor, stage + 1 < end);
    multiply_stage<kType>(sum, slot_of(stage), scales);
    scales = next_scales;
    if (cursor.step != 0 && stage + 1 < end) continue;
    finish_skinny_tile<Shape, kEpilogue>(args, sum, tile, warp_index() * Shape::kWarpTiles, 0, is_last);
#pragma unroll
    for (int i = 0; i < kTokenTiles; ++i)
#pragma unroll
      for (int v = 0; v < 4 * Shape::kWarpTiles; ++v) sum[i][v / 4][v % 4] = 0;
  }
  dev::cp_async_wait<0>();
}

/// Whether gemm_skinny takes these: types, alignments.
template <class A, class Out>
inline bool fits_gemm_skinny(const LinearArgs<A, Out>& args) {
  return std::is_same_v<A, bf16> && args.weight.dtype != DType::kF32 && args.weight.cols % 8 == 0 &&
         vectors_fit(args.x, args.x_stride);
}

/// A product dealt out in tiles of `Shape`.
template <class Shape, Epilogue kEpilogue, class Out>
inline SkinnyArgs<Out> skinny_args(const LinearArgs<bf16, Out>& linear, const SplitWorkspace& workspace) {
  SkinnyArgs<Out> args;
  args.linear = linear;
  args.workspace = workspace;
  args.n_cols = output_cols<kEpilogue>(linear);
  args.token_tiles = (linear.num_tokens + Shape::kTokens - 1) / Shape::kTokens;
  const int tile_outputs = kEpilogue == Epilogue::kSiluMul ? Shape::kRows / 2 : Shape::kRows;
  args.split.stages_per_tile = static_cast<int>((linear.weight.cols + Shape::kCols - 1) / Shape::kCols);
  args.split.num_stages = static_cast<int>((args.n_cols + tile_outputs - 1) / tile_outputs) *
                          args.token_tiles * args.split.stages_per_tile;
  return args;
}

template <DType kType, Epilogue kEpilogue, int kTokenTiles, class Out>
inline void launch_gemm_skinny(const LinearArgs<bf16, Out>& linear, const SplitWorkspace& workspace,
                               int num_multiprocessors, dev::stream_t stream) {
  using Shape = SkinnyShape<kType, kTokenTiles>;
  static_assert(Shape::kBlocks * Shape::kTileValues * 2 <= skinny_workspace_sums(1));
  const auto args = skinny_args<Shape, kEpilogue>(linear, workspace);
  const int blocks = std::min(num_multiprocessors * Shape::kBlocks, args.split.num_stages);
  dev::launch(gemm_skinny_kernel<kType, kEpilogue, kTokenTiles, Out>, dim3(static_cast<unsigned>(blocks)),
              dim3(kSkinnyThreads), std::size_t{Shape::kSlots} * Shape::kSlotBytes, stream, args);
}

/// gemv (gemv.cuh) for what fits_gemm_skinny allows and any M, at its best for M from 9 to 64. `workspace`
/// has skinny_workspace_blocks and skinny_workspace_sums of the device's multiprocessors; launches that share
/// one follow one another in a stream.
template <Epilogue kEpilogue = Epilogue::kNone, class Out>
inline void gemm_skinny(const LinearArgs<bf16, Out>& args, const SplitWorkspace& workspace,
                        int num_multiprocessors, dev::stream_t stream) {
  if (args.num_tokens == 0 || args.weight.rows == 0) return;
  with_dtype(args.weight.dtype, [&](auto tag) {
    constexpr DType kType = decltype(tag)::value;
    if constexpr (kType != DType::kF32) {
      if (args.num_tokens <= 16)
        launch_gemm_skinny<kType, kEpilogue, 2>(args, workspace, num_multiprocessors, stream);
      else if (args.num_tokens <= 32)
        launch_gemm_skinny<kType, kEpilogue, 4>(args, workspace, num_multiprocessors, stream);
      else
        launch_gemm_skinny<kType, kEpilogue, 8>(args, workspace, num_multiprocessors, stream);
    }
  });
}

}  // namespace redline::cuda
