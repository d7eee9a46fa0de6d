// The kernels of one instruction set, as function pointers: CpuOps shares out the work and calls these. Each
// set is one translation unit with its own -m flags, so this header (and all that they include) holds plain
// data only: an inline function compiled there could end up serving machines without the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
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

/// The most rows of activations that one MatrixKernel::multiply is asked for: their sums fit a thread's L1.
inline constexpr std::int64_t kMaxTaskRows = 192;

/// The kernels of one instruction set, in DType's order.
extern const MatrixKernel kF32Portable, kF16Portable, kBF16Portable, kQ8_0Portable, kQ4_0Portable,
    kQ4_1Portable, kQ5_0Portable, kQ5_1Portable, kQ2_KPortable, kQ3_KPortable, kQ4_KPortable, kQ5_KPortable,
    kQ6_KPortable, kIQ4_NLPortable, kIQ4_XSPortable, kMXFP4Portable, kF8E4M3Portable;
extern const MatrixKernel kF32Avx2, kF16Avx2, kBF16Avx2, kQ8_0Avx2, kQ4_0Avx2, kQ4_1Avx2, kQ5_0Avx2,
    kQ5_1Avx2, kQ2_KAvx2, kQ3_KAvx2, kQ4_KAvx2, kQ5_KAvx2, kQ6_KAvx2, kIQ4_NLAvx2, kIQ4_XSAvx2, kMXFP4Avx2;
extern const MatrixKernel kF32Avx512, kF16Avx512, kBF16Avx512, kQ8_0Avx512, kQ4_0Avx512, kQ4_1Avx512,
    kQ5_0Avx512, kQ5_1Avx512, kQ2_KAvx512, kQ3_KAvx512, kQ4_KAvx512, kQ5_KAvx512, kQ6_KAvx512, kIQ4_NLAvx512,
    kIQ4_XSAvx512, kMXFP4Avx512;

struct KernelTable {
  const char* isa = "";
  const MatrixKernel* matrix[kNumDTypes] = {};
  const AttentionKernels* attention = nullptr;
  const ElementwiseKernels* elementwise = nullptr;
};

}  // namespace redline::cpu
