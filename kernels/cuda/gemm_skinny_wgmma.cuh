// out[M, N] = x[M, K] W[N, K]^T on Hopper for tens of tokens and W in bf16, both operands by tensor copies
// and multiplied by wgmma with 64 rows of W as A and the tokens as B, so that few tokens waste no rows of it.
//
// One block a multiprocessor: two consumer warpgroups own 64 rows of W each and 8 kTokenTiles tokens; one
// warp keeps the ring of stages filled, 64 columns (128 bytes, swizzled) of 128 rows and of the tokens each.
// With kSiluMul, 8 rows of gate lie before their 8 rows of up, so that one thread holds both. Tiles are dealt
// out to the blocks by stages (stage_split.cuh). A warpgroup starts a stage's product before it waits for the
// last one's. What lies outside x and W is zero.
//
// Numerics: products exact, sums f32; their order depends on the number of blocks, not on M.
// Limit: bytes of W; 16 KB of it a stage, kSlots in flight. Share reached: not yet measured, so that
// few_rows.cu does not choose it; product_bench measures it.
#pragma once

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/gemv_fragments.cuh"
#include "kernels/cuda/silu_mul.cuh"
#include "kernels/cuda/stage_split.cuh"

namespace redline::cuda {

inline constexpr int kWideConsumers = 256;  // threads
inline constexpr int kWideThreads = kWideConsumers + kWarpSize;

template <Epilogue kEpilogue, int kTokenTiles>
struct WideShape {
  static constexpr int kTokens = 8 * kTokenTiles;
  static constexpr int kRows = 128;
  static constexpr int kCols = 64;
  static constexpr int kBoxRows = kEpilogue == Epilogue::kSiluMul ? 8 : 64;  // of W in a copy
  static constexpr int kBoxes = kRows / kBoxRows;
  static constexpr int kWeightBytes = kRows * 128;
  static constexpr int kSlotBytes = kWeightBytes + kTokens * 128;
  static constexpr int kSlots = 200 * 1024 / kSlotBytes < 8 ? 200 * 1024 / kSlotBytes : 8;
  static constexpr int kTileValues = kRows * kTokens;
  static_assert(kBoxes < kWarpSize && kSlots >= 4);
};

template <class Out>
struct WideArgs {
  LinearArgs<bf16, Out> linear;
  SplitWorkspace workspace;
  StageSplit split;  // a tile of rows with each tile of tokens in turn
  std::int64_t n_cols = 0;
  int token_tiles = 0;
};

/// The ring's state: stage n of the block lies in slot n % kSlots and completes its mbarrier's phase n /
/// kSlots.
template <class Shape>
struct WideRing {
  std::byte* slots;
  std::uint64_t* full;
  std::uint64_t* empty;

  DEV_INLINE std::byte* slot(int n) const { return slots + n % Shape::kSlots * Shape::kSlotBytes; }
  DEV_INLINE static unsigned parity(int n) { return static_cast<unsigned>(n / Shape::kSlots) % 2; }
};

// The producer warp: lane i copies box i of W's rows, the next lane the tokens.
template <Epilogue kEpilogue, int kTokenTiles, class Out>
DEV_INLINE void stream_stages(const WideArgs<Out>& args, const dev::TensorMap2D* weight,
                              const dev::TensorMap2D* x,
                              const WideRing<WideShape<kEpilogue, kTokenTiles>>& ring, int begin, int end) {
  using Shape = WideShape<kEpilogue, kTokenTiles>;
  const int lane = lane_index();
  StageCursor cursor = cursor_at(args.split, begin);
  for (int n = 0; n < end - begin; ++n, advance(cursor, args.split)) {
    std::uint64_t* const full = &ring.full[n % Shape::kSlots];
    dev::mbarrier_wait_parity(&ring.empty[n % Shape::kSlots], ring.parity(n) ^ 1);
    // Lanes need not wait for it: no phase completes before its one arrival.
    if (lane == 0) dev::mbarrier_arrive_expect_tx(full, Shape::kSlotBytes);
    const int column = cursor.step * Shape::kCols, row_tile = cursor.tile / args.token_tiles;
    if (lane < Shape::kBoxes) {
      int row = (row_tile * Shape::kBoxes + lane) * Shape::kBoxRows;
      if constexpr (kEpilogue == Epilogue::kSiluMul)
        row = (row_tile * Shape::kBoxes / 2 + lane / 2) * 8 + lane % 2 * static_cast<int>(args.n_cols);
      dev::tma_load_2d(ring.slot(n) + lane * Shape::kBoxRows * 128, weight, column, row, full);
    } else if (lane == Shape::kBoxes) {
      dev::tma_load_2d(ring.slot(n) + Shape::kWeightBytes, x, column,
                       cursor.tile % args.token_tiles * Shape::kTokens, full);
    }
  }
}

template <int kTokenTiles>
DEV_INLINE void hold_sums(float (&sum)[kTokenTiles][4]) {
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile)
#pragma unroll
    for (int e = 0; e < 4; ++e) dev::wgmma_hold(sum[tile][e]);
}

// Starts sum (+)= the warpgroup's 64 rows times the tokens over a stage's 64 columns.
template <class Shape, int kTokenTiles>
DEV_INLINE void start_stage(float (&sum)[kTokenTiles][4], const std::byte* slot, bool accumulate) {
  const std::uint64_t rows =
      dev::wgmma_desc(slot + warp_index() / 4 * 64 * 128, 16, 1024, dev::Swizzle::B128);
  const std::uint64_t tokens = dev::wgmma_desc(slot + Shape::kWeightBytes, 16, 1024, dev::Swizzle::B128);
  hold_sums(sum);
  dev::wgmma_fence();
#pragma unroll
  for (unsigned step = 0; step < Shape::kCols / 16; ++step)
    dev::wgmma_ss(sum, dev::wgmma_desc_advance(rows, step * 32), dev::wgmma_desc_advance(tokens, step * 32),
                  accumulate || step > 0);
  dev::wgmma_commit();
}

// Adds up what the tile's owners have left, if this block is the last of them.
template <class Shape, int kTokenTiles>
DEV_INLINE bool join_sums(const SplitWorkspace& workspace, const TileOwners& owners,
                          float (&sum)[kTokenTiles][4], unsigned& is_last) {
  const auto left_by = [&](int block, int value) -> float& {
    return sums_left_by(workspace, owners, block,
                        Shape::kTileValues)[value * kWideConsumers + thread_index()];
  };
#pragma unroll
  for (int v = 0; v < 4 * kTokenTiles; ++v) left_by(static_cast<int>(blockIdx.x), v) = sum[v / 4][v % 4];
  if (!arrive_last(workspace, owners, kWideConsumers, is_last)) return false;
#pragma unroll
  for (int v = 0; v < 4 * kTokenTiles; ++v) sum[v / 4][v % 4] = 0;
#pragma unroll 1
  for (int block = owners.first; block <= owners.last; ++block)
#pragma unroll
    for (int v = 0; v < 4 * kTokenTiles; ++v) sum[v / 4][v % 4] += left_by(block, v);
  return true;
}

// Writes a tile: rows g and g + 8 of the warp's 16, tokens 8 j + 2 t and the next.
template <Epilogue kEpilogue, int kTokenTiles, class Out>
DEV_INLINE void store_wide_tile(const WideArgs<Out>& args, const float (&sum)[kTokenTiles][4], int tile) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  const std::int64_t row_tile = std::int64_t{tile / args.token_tiles} * 8 + warp_index();
  const int first_token = tile % args.token_tiles * 8 * kTokenTiles;
  const auto store = [&](int token, std::int64_t output, float value) {
    if (token < args.linear.num_tokens && output < args.n_cols)
      args.linear.out[token * args.linear.out_stride + output] = from_f32<Out>(value);
  };
#pragma unroll
  for (int j = 0; j < kTokenTiles; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int token = first_token + 8 * j + 2 * t + e;
      const float low = sum[j][e], high = sum[j][2 + e];
      if constexpr (kEpilogue == Epilogue::kSiluMul) {
        store(token, row_tile * 8 + g, silu(low) * high);
      } else {
        store(token, row_tile * kTileRows + g, low);
        store(token, row_tile * kTileRows + g + 8, high);
      }
    }
}

template <Epilogue kEpilogue, int kTokenTiles, class Out>
__global__ void __launch_bounds__(kWideThreads, 1)
    gemm_skinny_wgmma_kernel(const __grid_constant__ WideArgs<Out> args,
                             const __grid_constant__ dev::TensorMap2D weight,
                             const __grid_constant__ dev::TensorMap2D x) {
  using Shape = WideShape<kEpilogue, kTokenTiles>;
  DEV_SHARED(std::uint64_t, full, [Shape::kSlots]);
  DEV_SHARED(std::uint64_t, empty, [Shape::kSlots]);
  DEV_SHARED(unsigned, is_last);
  const WideRing<Shape> ring{dev::dynamic_smem<std::byte>(), full, empty};
  const int block = static_cast<int>(blockIdx.x);
  const int begin = first_stage(args.split, block), end = first_stage(args.split, block + 1);
  if (thread_index() == 0) {
    for (int i = 0; i < Shape::kSlots; ++i) {
      dev::mbarrier_init(&full[i], 1);
      dev::mbarrier_init(&empty[i], kWideConsumers / kWarpSize);
    }
    dev::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp_index() == kWideConsumers / kWarpSize)
    return stream_stages<kEpilogue, kTokenTiles>(args, &weight, &x, ring, begin, end);

  const auto leave = [&](int n) {
    if (lane_index() == 0) dev::mbarrier_arrive(&empty[n % Shape::kSlots]);
  };
  float sum[kTokenTiles][4];
  StageCursor cursor = cursor_at(args.split, begin);
  for (int n = 0; n < end - begin;) {  // a tile's stages of this block
    const int left = args.split.stages_per_tile - cursor.step;
    const int next = n + left < end - begin ? n + left : end - begin;
    for (int i = n; i < next; ++i) {
      dev::mbarrier_wait_parity(&full[i % Shape::kSlots], ring.parity(i));
      start_stage<Shape>(sum, ring.slot(i), i > n);
      dev::wgmma_wait<1>();  // the stage before
      if (i > n) leave(i - 1);
    }
    dev::wgmma_wait<0>();
    hold_sums(sum);
    leave(next - 1);
    const TileOwners owners = owners_of(args.split, cursor.tile);
    if (owners.first == owners.last || join_sums<Shape>(args.workspace, owners, sum, is_last))
      store_wide_tile<kEpilogue>(args, sum, cursor.tile);
    n = next;
    cursor = {cursor.tile + 1, 0};
  }
}

/// Whether gemm_skinny_wgmma takes these: types, alignments. The device must be of sm_90a.
template <class A, class Out>
inline bool fits_gemm_skinny_wgmma(const LinearArgs<A, Out>& args) {
  return std::is_same_v<A, bf16> && args.weight.dtype == DType::kBF16 && args.weight.cols % 8 == 0 &&
         vectors_fit(args.x, args.x_stride) && args.weight.rows < std::int64_t{1} << 31;
}

template <Epilogue kEpilogue, int kTokenTiles, class Out>
inline void launch_gemm_skinny_wgmma(const LinearArgs<bf16, Out>& linear, const SplitWorkspace& workspace,
                                     int num_multiprocessors, dev::stream_t stream) {
  using Shape = WideShape<kEpilogue, kTokenTiles>;
  WideArgs<Out> args;
  args.linear = linear;
  args.workspace = workspace;
  args.n_cols = output_cols<kEpilogue>(linear);
  args.token_tiles = (linear.num_tokens + Shape::kTokens - 1) / Shape::kTokens;
  const std::int64_t tile_outputs = kEpilogue == Epilogue::kSiluMul ? Shape::kRows / 2 : Shape::kRows;
  args.split.stages_per_tile = static_cast<int>((linear.weight.cols + Shape::kCols - 1) / Shape::kCols);
  args.split.num_stages = static_cast<int>((args.n_cols + tile_outputs - 1) / tile_outputs) *
                          args.token_tiles * args.split.stages_per_tile;
  const auto map = [](const void* base, std::int64_t cols, std::int64_t rows, std::int64_t stride,
                      int box_rows) {
    return dev::make_tensor_map_2d(base, static_cast<std::uint64_t>(cols), static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(stride) * sizeof(bf16), Shape::kCols,
                                   static_cast<std::uint32_t>(box_rows), sizeof(bf16), dev::Swizzle::B128);
  };
  const WeightArrays& weight = linear.weight;
  const int blocks = std::min(num_multiprocessors, args.split.num_stages);
  dev::launch(gemm_skinny_wgmma_kernel<kEpilogue, kTokenTiles, Out>, dim3(static_cast<unsigned>(blocks)),
              dim3(kWideThreads), std::size_t{Shape::kSlots} * Shape::kSlotBytes, stream, args,
              map(weight.quants, weight.cols, weight.rows, weight.cols, Shape::kBoxRows),
              map(linear.x, weight.cols, linear.num_tokens, linear.x_stride, Shape::kTokens));
}

/// Floats of SplitWorkspace::sums for so many multiprocessors; as many of `arrived`.
constexpr std::int64_t wide_workspace_sums(std::int64_t num_multiprocessors) {
  return num_multiprocessors * 2 * 128 * 128;
}

/// gemv (gemv.cuh) for what fits_gemm_skinny_wgmma allows and any M, meant for M from 5 to 128. Launches that
/// share a workspace follow one another in a stream.
template <Epilogue kEpilogue = Epilogue::kNone, class Out>
inline void gemm_skinny_wgmma(const LinearArgs<bf16, Out>& args, const SplitWorkspace& workspace,
                              int num_multiprocessors, dev::stream_t stream) {
  if (args.num_tokens == 0 || args.weight.rows == 0) return;
  const auto launch = [&](auto tiles) {
    launch_gemm_skinny_wgmma<kEpilogue, decltype(tiles)::value>(args, workspace, num_multiprocessors, stream);
  };
  if (args.num_tokens <= 8)
    launch(std::integral_constant<int, 1>());
  else if (args.num_tokens <= 16)
    launch(std::integral_constant<int, 2>());
  else if (args.num_tokens <= 32)
    launch(std::integral_constant<int, 4>());
  else if (args.num_tokens <= 64)
    launch(std::integral_constant<int, 8>());
  else
    launch(std::integral_constant<int, 16>());
}

}  // namespace redline::cuda
