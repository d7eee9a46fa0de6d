// The kernels of one instruction set, as function pointers: CpuOps shares out the work and calls these. Each
// set is one translation unit with its own -m flags, so this header (and all that they include) holds plain
// data only: an inline function compiled there could end up serving machines without the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/ceiling_loops.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/panel_layout.h"
#include "kernels/dtype.h"

namespace redline::cpu {

/// One matrix product out[m, n] = x[m, k] weight[n, k]^T. With gate_up, panels hold as many gate rows as up
/// rows and out[m, n / 2] = silu(gate) * up.
struct LinearTask {
  const std::byte* weight = nullptr;  // packed panels
  std::int64_t n = 0;
  std::int64_t k = 0;
  const std::byte* activations = nullptr;  // all m rows, prepared
  std::int64_t m = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;  // elements
  bool gate_up = false;
};

/// The most rows of activations that one MatrixKernel::multiply is asked for, unless it says otherwise: their
/// sums fit a thread's first cache.
inline constexpr int kDefaultTaskRows = 192;

/// Rows in a tile: as many as the kernel takes, but m rows in tiles as equal as they come.
static constexpr std::int64_t tile_rows(std::int64_t m, std::int64_t most) {
  const std::int64_t tiles = (m + most - 1) / most;
  return m == 0 ? most : (m + tiles - 1) / tiles;
}

/// The kernels of one weight type. Activations are prepared once per product (quantised, in tiles
/// of tile_rows(m, max_tile_rows)).
struct MatrixKernel {
  PanelFormat panel;
  int max_tile_rows = 0;
  int max_task_rows = kDefaultTaskRows;
  ComputeType compute = ComputeType::kF32;
  std::int64_t (*activation_bytes)(std::int64_t m, std::int64_t k) = nullptr;
  /// Prepares rows [first, first + count) of m; first is a multiple of the tile, and so is count unless
  /// the rows end there.
  void (*prepare)(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t m,
                  std::int64_t k, std::int64_t first, std::int64_t count) = nullptr;
  /// Computes panels [first_panel, last_panel) for rows [first_row, last_row), aligned to tiles as above.
  void (*multiply)(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
                   std::int64_t first_row, std::int64_t last_row) = nullptr;
};

/// Arrays in DType's order: F32, F16 and BF16; every quantised type but F8_E4M3.
inline constexpr int kNumFloatTypes = 3, kNumQuantizedTypes = kNumDTypes - 4;
extern const MatrixKernel kFloatPortable[kNumFloatTypes], kQuantizedPortable[kNumQuantizedTypes],
    kF8E4M3Portable;
extern const MatrixKernel kFloatAvx2[kNumFloatTypes], kQuantizedAvx2[kNumQuantizedTypes];
extern const MatrixKernel kQuantizedAvx2Vnni[kNumQuantizedTypes];
extern const MatrixKernel kFloatAvx512[kNumFloatTypes], kQuantizedAvx512Vnni[kNumQuantizedTypes];
extern const MatrixKernel kBF16Avx512Bf16;
extern const MatrixKernel kBF16Avx512Amx, kQuantizedAvx512Amx[kNumQuantizedTypes];

/// The kernels of one instruction set, and the loops that measure what it attains.
struct KernelTable {
  const char* isa = "";
  const MatrixKernel* matrix[kNumDTypes] = {};
  const AttentionKernels* attention = nullptr;
  const ElementwiseKernels* elementwise = nullptr;
  CeilingLoops ceilings;
};

}  // namespace redline::cpu
