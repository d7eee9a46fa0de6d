// out[M, N] = x[M, K] W[N, K]^T for M up to 8 tokens of bf16, as gemv_mma.cuh, but with W streamed through a
// ring in shared memory by Hopper's copy engine, so that no register waits for memory.
//
// One block per multiprocessor. W is cut into stages of 16 rows x 1 KiB; all stages, tile of 16 rows after
// tile, are dealt out evenly and contiguously to the blocks, however N divides. A producer warp keeps every
// slot of the ring in flight: lane r copies row r's bytes of a stage, lane 16 + r its scales. Eight consumer
// warps each own two of a stage's sixteen 64-byte columns of chunks. At the end of a tile the warps' sums
// meet in shared memory; where a tile is shared by several blocks each leaves its sums in global memory, and
// the last to arrive adds them up in the blocks' order, so that results do not depend on timing. A slot's
// rows lie 1024 + 64 bytes apart: 8 lanes that read 16 bytes of 2 rows touch every bank once.
//
// Launched as dependent, the producer fills the ring while the kernel before still runs: weights depend on
// nothing. Only the consumers wait for x. Given a NormPrologue they make it, in every block, while the ring
// fills; the last block to have read the residual stream writes it and x back.
//
// Numerics: as gemv_mma.cuh; the order of sums depends on the number of blocks, not on M.
// Limit: bytes of W. Reached on an H100 SXM (3.35 TB/s by its vendor, 3.06 to 3.08 by a plain read),
// 2026-11-23, docs/bench/h100.jsonl, M = 1: bf16 1.1 to 2.9 TB/s. gemv_mma took less time in 93 of 104 cases,
// up to 1.8 times less; this kernel was ahead by 12 to 20 % on the 1B model's gate and up in q4_0 and q4_1.
// With bf16 it was 4 to 5 us behind however large the matrix: what a dependent launch may cover, which has
// not been measured yet. few_rows.cu chooses it where asked.
#pragma once

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/gemv_fragments.cuh"
#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/silu_mul.cuh"
#include "kernels/cuda/stage_split.cuh"

namespace redline::cuda {

inline constexpr int kRingConsumers = 8;  // warps
inline constexpr int kRingThreads = (kRingConsumers + 1) * kWarpSize;
inline constexpr int kRingMaxTokens = 8;
inline constexpr int kRingNormTokens = 4;  // that a NormPrologue makes at most
inline constexpr int kRingNormCols = 8192;
inline constexpr int kRingMaxSlots = 12;
inline constexpr int kStageRowBytes = 1024;
inline constexpr int kStageRowPitch = kStageRowBytes + 64;
inline constexpr int kTileValues = kTileRows * kRingMaxTokens;

/// Columns of W in a stage, bytes of their scales in a row, and how far apart a slot keeps those rows.
template <DType kType>
struct StageShape {
  static constexpr int kCols = kStageRowBytes / 64 * kChunkColumns<kType>;
  static constexpr int kScaleSize = !kIsQuantized<kType> ? 0 : kType == DType::kQ4_1 ? 4 : 2;  // of a group
  static constexpr int kScaleBytes = kCols / kGroup * kScaleSize;
  static constexpr int kScalePitch = kScaleBytes == 0 ? 0 : kScaleBytes + 16;
  static constexpr int kSlotBytes = kTileRows * (kStageRowPitch + kScalePitch);
};

template <class Out>
struct RingArgs {
  LinearArgs<bf16, Out> linear;
  SplitWorkspace workspace;
  std::int64_t n_cols = 0;
  StageSplit split;
  int num_slots = 0;
  int x_pitch = 0;  // elements between tokens in shared memory
  NormPrologue norm;
  unsigned* norm_arrived = nullptr;  // a word of the workspace, zero; null: there is no norm
};

/// A position in the ring and the parity of its current use.
struct RingSlot {
  int index = 0;
  unsigned parity = 0;
};
DEV_INLINE void advance(RingSlot& slot, int num_slots) {
  if (++slot.index < num_slots) return;
  slot.index = 0;
  slot.parity ^= 1;
}

// The producer warp: fills slots as consumers free them.
template <DType kType, Epilogue kEpilogue, class Out>
DEV_INLINE void produce(const RingArgs<Out>& args, std::byte* slots, std::uint64_t* full,
                        std::uint64_t* empty, int begin, int end) {
  using Stage = StageShape<kType>;
  const WeightArrays& weight = args.linear.weight;
  const int row = lane_index() % kTileRows;
  StageCursor cursor = cursor_at(args.split, begin);
  RingSlot slot;
  for (int stage = begin; stage < end; ++stage, advance(slot, args.num_slots), advance(cursor, args.split)) {
    const std::int64_t col = std::int64_t{cursor.step} * Stage::kCols;
    const std::int64_t cols = weight.cols - col < Stage::kCols ? weight.cols - col : Stage::kCols;
    const auto bytes = static_cast<unsigned>(cols * kStageRowBytes / Stage::kCols);
    const auto scale_bytes = static_cast<unsigned>(cols / kGroup * Stage::kScaleSize);
    dev::mbarrier_wait_parity(&empty[slot.index], slot.parity ^ 1);
    if (lane_index() == 0)
      dev::mbarrier_arrive_expect_tx(&full[slot.index], kTileRows * (bytes + scale_bytes));
    __syncwarp();
    const std::int64_t element = weight_row<kEpilogue>(cursor.tile, row, args.n_cols) * weight.cols + col;
    std::byte* const to = slots + slot.index * Stage::kSlotBytes;
    if (lane_index() < kTileRows)
      dev::bulk_g2s(to + row * kStageRowPitch, weight.quants + element * kStageRowBytes / Stage::kCols, bytes,
                    &full[slot.index]);
    else if constexpr (kIsQuantized<kType>)
      dev::bulk_g2s(to + kTileRows * kStageRowPitch + row * Stage::kScalePitch,
                    weight.scales + element / kGroup * Stage::kScaleSize, scale_bytes, &full[slot.index]);
  }
}

// sum += a consumer warp's share of the stage in `slot`, whose first column is `stage_col`.
template <DType kType>
DEV_INLINE void consume_stage(float (&sum)[4], const std::byte* slot, const bf16* x, std::int64_t stage_col,
                              std::int64_t k) {
  using Stage = StageShape<kType>;
  constexpr int kChunkCols = kChunkColumns<kType>, kGroups = kChunkCols / kGroup;
  const int g = lane_index() / 4, t = lane_index() % 4;
  const std::byte* const scales = slot + kTileRows * kStageRowPitch;
#pragma unroll
  for (int i = 0; i < kStageRowBytes / 64 / kRingConsumers; ++i) {
    const int chunk = warp_index() + i * kRingConsumers;
    const std::int64_t col = stage_col + chunk * kChunkCols;
    if (col >= k) return;
    RowWords<kType> words[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint4 quants = make_uint4(0, 0, 0, 0);
      if (col + t * (kChunkCols / 4) < k)
        quants = dev::ld_v4(slot + (g + 8 * half) * kStageRowPitch + chunk * 64 + t * 16);
      exchange<kType>(quants, words[half].of);
    }
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      if (col + j * kGroup >= k) break;
      float2 scale[2] = {};
      if constexpr (kIsQuantized<kType>) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::byte* const at =
              scales + (g + 8 * half) * Stage::kScalePitch + (chunk * kGroups + j) * Stage::kScaleSize;
          if constexpr (kType == DType::kQ4_1)
            scale[half] = unpack_f16x2(*reinterpret_cast<const std::uint32_t*>(at));
          else
            scale[half].x = to_f32(*reinterpret_cast<const f16*>(at));
        }
      }
      add_product<kType>(sum, row_fragment<kType>(words[0], words[1], j),
                         token_fragment<kType>(x_fragment<kType>(x, col + j * kGroup, k)), scale);
    }
  }
}

// Consumers: the sums of a tile, of which this block computed some or all stages, to `out`. `partial` was
// written by all of them before a barrier.
template <Epilogue kEpilogue, class Out>
DEV_INLINE void finish_tile(const RingArgs<Out>& args, const float (&partial)[kRingConsumers][kTileValues],
                            int tile, unsigned& is_last) {
  constexpr bool kSilu = kEpilogue == Epilogue::kSiluMul;
  constexpr int kTileOutputs = kSilu ? 8 : 16, kThreads = kRingConsumers * kWarpSize;
  const TileOwners owners = owners_of(args.split, tile);
  const auto own = [&](int value) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kRingConsumers; ++warp) sum += partial[warp][value];
    return sum;
  };
  const auto left_by = [&](int block) { return sums_left_by(args.workspace, owners, block, kTileValues); };
  if (owners.first != owners.last) {
    for (int i = thread_index(); i < kTileValues; i += kThreads)
      left_by(static_cast<int>(blockIdx.x))[i] = own(i);
    if (!arrive_last(args.workspace, owners, kThreads, is_last)) return;
  }
  const auto value = [&](int token, int row) {
    const int i = token * kTileRows + row;
    if (owners.first == owners.last) return own(i);
    float sum = 0;
    for (int block = owners.first; block <= owners.last; ++block) sum += left_by(block)[i];
    return sum;
  };
  for (int i = thread_index(); i < args.linear.num_tokens * kTileOutputs; i += kThreads) {
    const int token = i / kTileOutputs, row = i % kTileOutputs;
    const std::int64_t output = std::int64_t{tile} * kTileOutputs + row;
    if (output >= args.n_cols) continue;
    float result = value(token, row);
    if constexpr (kSilu) result = silu(result) * value(token, row + 8);
    args.linear.out[token * args.linear.out_stride + output] = from_f32<Out>(result);
  }
}

/// Columns [8 vector, ...) of a row of residual + delta.
DEV_INLINE void load_sum(const NormPrologue& norm, std::int64_t row, int vector, float (&sum)[8]) {
  float delta[8];
  load_elements(norm.residual + row + vector * 8, sum);
  load_elements(norm.delta + row + vector * 8, delta);
#pragma unroll
  for (int e = 0; e < 8; ++e) sum[e] += delta[e];
}

// Consumers: x in shared memory by args.norm, and its sums of squares in rms_norm_kernel's order, whose
// threads each of these stands for one or two of. `partial`: [tokens, 16].
template <class Out>
DEV_INLINE void normalize(const RingArgs<Out>& args, bf16* shared_x, float (&partial)[kRingNormTokens][16],
                          unsigned& is_last) {
  constexpr int kThreads = kRingConsumers * kWarpSize;
  const int cols = static_cast<int>(args.linear.weight.cols), num_tokens = args.linear.num_tokens;
  const int summing = rms_norm_threads(cols);
  for (int token = 0; token < num_tokens; ++token)
    for (int thread = thread_index(); thread < summing; thread += kThreads) {
      float square = 0, values[8];
      for (int vector = thread; vector < cols / 8; vector += summing) {
        load_sum(args.norm, std::int64_t{token} * cols, vector, values);
#pragma unroll
        for (int e = 0; e < 8; ++e) square += values[e] * values[e];
      }
      square = warp_sum(square);
      if (lane_index() == 0) partial[token][thread / kWarpSize] = square;
    }
  dev::bar_sync(1, kThreads);
  for (int token = 0; token < num_tokens; ++token) {
    float sum = 0;
    for (int warp = 0; warp < summing / kWarpSize; ++warp) sum += partial[token][warp];
    const float scale = rsqrtf(sum / static_cast<float>(cols) + args.norm.eps);
    for (int vector = thread_index(); vector < cols / 8; vector += kThreads) {
      float values[8], weight[8];
      load_sum(args.norm, std::int64_t{token} * cols, vector, values);
      load_elements(args.norm.weight + vector * 8, weight);
#pragma unroll
      for (int e = 0; e < 8; ++e) weight[e] *= values[e] * scale;
      store_elements(shared_x + token * args.x_pitch + vector * 8, weight);
    }
  }
  if (!arrive_last(*args.norm_arrived, gridDim.x - 1, kThreads, is_last)) return;
  for (int token = 0; token < num_tokens; ++token)
    for (int vector = thread_index(); vector < cols / 8; vector += kThreads) {
      const std::int64_t row = std::int64_t{token} * cols;
      float values[8];
      load_sum(args.norm, row, vector, values);
      store_elements(args.norm.residual + row + vector * 8, values);
      dev::st_v4(args.norm.x + row + vector * 8, dev::ld_v4(shared_x + token * args.x_pitch + vector * 8));
    }
}

/// kSharedX: x is copied to shared memory first; else it is read through L1.
template <DType kType, Epilogue kEpilogue, bool kSharedX, class Out>
__global__ void __launch_bounds__(kRingThreads, 1) gemv_ring_kernel(const RingArgs<Out> args) {
  using Stage = StageShape<kType>;
  constexpr int kConsumerThreads = kRingConsumers * kWarpSize;
  std::byte* const slots = dev::dynamic_smem<std::byte>();
  bf16* const shared_x = reinterpret_cast<bf16*>(slots + args.num_slots * Stage::kSlotBytes);
  DEV_SHARED(std::uint64_t, full, [kRingMaxSlots]);
  DEV_SHARED(std::uint64_t, empty, [kRingMaxSlots]);
  DEV_SHARED(float, partial, [2][kRingConsumers][kTileValues]);
  DEV_SHARED(float, squares, [kRingNormTokens][16]);
  DEV_SHARED(unsigned, is_last);
  const int block = static_cast<int>(blockIdx.x);
  const int begin = first_stage(args.split, block), end = first_stage(args.split, block + 1);
  if (thread_index() == 0) {
    for (int i = 0; i < args.num_slots; ++i) {
      dev::mbarrier_init(&full[i], 1);
      dev::mbarrier_init(&empty[i], kRingConsumers);
    }
    dev::fence_mbarrier_init();
  }
  __syncthreads();
  dev::allow_next_kernel();
  if (warp_index() == kRingConsumers) {
    produce<kType, kEpilogue>(args, slots, full, empty, begin, end);
    return;
  }

  dev::wait_for_prior_kernels();
  const LinearArgs<bf16, Out>& linear = args.linear;
  const std::int64_t k = linear.weight.cols;
  const int g = lane_index() / 4, t = lane_index() % 4;
  const bf16* x = nullptr;
  if constexpr (kSharedX) {
    const bool makes_x = args.norm_arrived != nullptr;
    if (makes_x) normalize(args, shared_x, squares, is_last);
    for (int token = 0; token < (makes_x ? 0 : linear.num_tokens); ++token)
      for (int col = 8 * thread_index(); col < k; col += 8 * kConsumerThreads)
        dev::st_v4(shared_x + token * args.x_pitch + col,
                   dev::ld_v4(linear.x + token * linear.x_stride + col));
    dev::bar_sync(1, kConsumerThreads);
    if (g < linear.num_tokens) x = shared_x + g * args.x_pitch;
  } else if (g < linear.num_tokens) {
    x = linear.x + g * linear.x_stride;
  }

  float sum[4] = {};
  StageCursor cursor = cursor_at(args.split, begin);
  RingSlot slot;
  int buffer = 0;  // of partial: one tile's is read while the next one's is written
  for (int stage = begin; stage < end; ++stage, advance(slot, args.num_slots), advance(cursor, args.split)) {
    dev::mbarrier_wait_parity(&full[slot.index], slot.parity);
    consume_stage<kType>(sum, slots + slot.index * Stage::kSlotBytes, x,
                         std::int64_t{cursor.step} * Stage::kCols, k);
    __syncwarp();
    if (lane_index() == 0) dev::mbarrier_arrive(&empty[slot.index]);
    if (cursor.step + 1 < args.split.stages_per_tile && stage + 1 < end) continue;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      partial[buffer][warp_index()][(2 * t + e % 2) * kTileRows + g + 8 * (e / 2)] = sum[e];
      sum[e] = 0;
    }
    dev::bar_sync(1, kConsumerThreads);
    finish_tile<kEpilogue>(args, partial[buffer], cursor.tile, is_last);
    buffer ^= 1;
  }
}

/// Whether gemv_ring takes these: types, M, K (whole copies of 16 bytes), alignments. The device must be
/// Hopper.
template <class A, class Out>
inline bool fits_gemv_ring(const LinearArgs<A, Out>& args) {
  const std::int64_t k = args.weight.cols;
  const DType type = args.weight.dtype;
  const bool whole_copies = !is_quantized(type)    ? k % 8 == 0
                            : type == DType::kQ4_1 ? k % 128 == 0
                                                   : k % 256 == 0;
  return std::is_same_v<A, bf16> && args.num_tokens <= kRingMaxTokens && type != DType::kF32 &&
         type != DType::kQ4_K && type != DType::kQ6_K && whole_copies && vectors_fit(args.x, args.x_stride);
}

/// Elements of SplitWorkspace::sums for so many blocks.
constexpr std::int64_t ring_workspace_sums(std::int64_t num_blocks) { return num_blocks * 2 * kTileValues; }

template <DType kType, Epilogue kEpilogue, class Out>
inline void launch_gemv_ring(const LinearArgs<bf16, Out>& linear, const NormPrologue* norm,
                             const SplitWorkspace& workspace, int num_blocks, dev::stream_t stream) {
  using Stage = StageShape<kType>;
  constexpr int kTileOutputs = kEpilogue == Epilogue::kSiluMul ? 8 : 16;
  constexpr int kSharedBytes = 227 * 1024 - 12 * 1024;  // what barriers and partial sums leave of a block's
  RingArgs<Out> args;
  args.linear = linear;
  args.workspace = workspace;
  args.n_cols = output_cols<kEpilogue>(linear);
  args.split.stages_per_tile = static_cast<int>((linear.weight.cols + Stage::kCols - 1) / Stage::kCols);
  args.split.num_stages =
      static_cast<int>((args.n_cols + kTileOutputs - 1) / kTileOutputs) * args.split.stages_per_tile;
  args.x_pitch =
      static_cast<int>((linear.weight.cols + 63) / 64 * 64 + 32);  // 8 lanes of 2 tokens: all banks
  const std::int64_t x_bytes = std::int64_t{linear.num_tokens} * args.x_pitch * std::int64_t{sizeof(bf16)};
  constexpr int kFewestSlots = 6;
  const bool shared_x = x_bytes <= kSharedBytes - kFewestSlots * Stage::kSlotBytes;
  REDLINE_CHECK(norm == nullptr || shared_x, "a norm's rows fit beside the ring");
  if (norm != nullptr) args.norm = *norm, args.norm_arrived = &workspace.arrived[num_blocks];
  const auto free_bytes = static_cast<int>(kSharedBytes - (shared_x ? x_bytes : 0));
  args.num_slots = std::min(kRingMaxSlots, free_bytes / Stage::kSlotBytes);
  const auto bytes = static_cast<std::size_t>(args.num_slots * Stage::kSlotBytes + (shared_x ? x_bytes : 0));
  const auto blocks = static_cast<unsigned>(std::min(num_blocks, args.split.num_stages));
  dev::launch_dependent(shared_x ? gemv_ring_kernel<kType, kEpilogue, true, Out>
                                 : gemv_ring_kernel<kType, kEpilogue, false, Out>,
                        dim3(blocks), dim3(kRingThreads), bytes, stream, args);
}

/// Whether gemv_ring may make these x by `norm`.
template <class A, class Out>
inline bool fits_ring_norm(const LinearArgs<A, Out>& args, const NormPrologue& norm) {
  const std::int64_t k = args.weight.cols;
  return fits_gemv_ring(args) && args.num_tokens <= kRingNormTokens && k <= kRingNormCols &&
         vectors_fit(norm.x, k) && vectors_fit(norm.residual, k) && vectors_fit(norm.delta, k) &&
         vectors_fit(norm.weight, k);
}

/// gemv (gemv.cuh) for what fits_gemv_ring allows, with `num_blocks` blocks, one per multiprocessor; the
/// workspace is for at least so many, with `norm`, which makes args.x first, for one more. Launches that
/// share a workspace follow one another in a stream, where what comes before one must not write its weights.
template <Epilogue kEpilogue = Epilogue::kNone, class Out>
inline void gemv_ring(const LinearArgs<bf16, Out>& args, const SplitWorkspace& workspace, int num_blocks,
                      dev::stream_t stream, const NormPrologue* norm = nullptr) {
  if (args.num_tokens == 0 || args.weight.rows == 0) return;
  with_dtype(args.weight.dtype, [&](auto tag) {
    constexpr DType kType = decltype(tag)::value;
    if constexpr (kType != DType::kF32 && kType != DType::kQ4_K && kType != DType::kQ6_K)
      launch_gemv_ring<kType, kEpilogue>(args, norm, workspace, num_blocks, stream);
  });
}

}  // namespace redline::cuda
