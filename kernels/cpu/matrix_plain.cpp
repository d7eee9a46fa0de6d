// Matrices of types that an instruction set has no kernel of its own for: blocks are dequantised to f32 as
// they come, and sum += w * x over k in order, one chain per output, in GEMV as in GEMM.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/cpu/kernel_table.h"

namespace redline::cpu {
namespace {

constexpr int kRows = 16;
constexpr int kTile = 4;

std::int64_t activation_bytes(std::int64_t m, std::int64_t k) { return m * k * 4; }

void prepare(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t, std::int64_t k,
             std::int64_t first, std::int64_t count) {
  for (std::int64_t row = first; row < first + count; ++row)
    std::memcpy(activations + row * k * 4, x + row * x_stride, static_cast<std::size_t>(k) * 4);
}

void store_panel(const LinearTask& task, std::int64_t panel, std::int64_t row, const float* sums) {
  float* out = task.out + row * task.out_stride;
  const std::int64_t width = task.gate_up ? kRows / 2 : kRows, n = task.gate_up ? task.n / 2 : task.n;
  for (std::int64_t r = 0; r < width && panel * width + r < n; ++r)
    out[panel * width + r] = task.gate_up ? sums[r] / (1 + std::exp(-sums[r])) * sums[r + width] : sums[r];
}

template <DType kType>
void multiply(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
              std::int64_t first_row, std::int64_t last_row) {
  constexpr int kElements = traits(kType).block_elements, kBytes = traits(kType).block_bytes;
  const auto* x = reinterpret_cast<const float*>(task.activations);
  const std::byte* block = task.weight + first_panel * kRows * row_bytes(kType, task.k);
  for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
    float sums[kMaxTaskRows][kRows] = {};
    for (std::int64_t k = 0; k < task.k; k += kElements)
      for (int r = 0; r < kRows; ++r, block += kBytes) {
        float w[kElements];
        dequantize_row(kType, block, kElements, w);
        for (std::int64_t row = first_row; row < last_row; ++row) {
          float& sum = sums[row - first_row][r];
          for (int i = 0; i < kElements; ++i) sum += w[i] * x[row * task.k + k + i];
        }
      }
    for (std::int64_t row = first_row; row < last_row; ++row)
      store_panel(task, panel, row, sums[row - first_row]);
  }
}

template <DType kType>
constexpr MatrixKernel kernel() {
  return {.panel = {.dtype = kType, .rows = kRows, .whole_blocks = true},
          .max_tile_rows = kTile,
          .compute = ComputeType::kF32,
          .activation_bytes = activation_bytes,
          .prepare = prepare,
          .multiply = multiply<kType>};
}

}  // namespace

constinit const MatrixKernel kF8E4M3Plain = kernel<DType::kF8E4M3>();

}  // namespace redline::cpu
