// The kernels of one instruction set, as function pointers: CpuOps shares out the work and calls these. Each
// set is one translation unit with its own -m flags, so this header (and all that they include) holds plain
// data only: an inline function compiled there could end up serving machines without the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

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

/// The kernels of one weight type. Activations are prepared once per product (quantised, tiled by
/// `tile_tokens` rows).
struct MatrixKernel {
  PanelFormat panel;
  int tile_tokens = 0;
  ComputeType compute = ComputeType::kF32;
  std::int64_t (*activation_bytes)(std::int64_t m, std::int64_t k) = nullptr;
  /// Prepares rows [first, first + count) of m; first is a multiple of tile_tokens, and so is count unless
  /// the rows end there.
  void (*prepare)(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t m,
                  std::int64_t k, std::int64_t first, std::int64_t count) = nullptr;
  /// Computes panels [first_panel, last_panel) for rows [first_row, last_row), aligned to tiles as above.
  void (*multiply)(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
                   std::int64_t first_row, std::int64_t last_row) = nullptr;
};

struct KernelTable {
  const char* isa = "";
  MatrixKernel matrix[kNumDTypes];
};

const KernelTable& portable_kernels();

}  // namespace redline::cpu
