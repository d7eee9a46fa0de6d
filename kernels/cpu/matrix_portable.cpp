// Matrix kernels in plain C++: what machines without AVX2 run, and the shape of the fast ones.
//
// Sums: per output one chain over k. Floats: sum += w * x. Quantised: activations are int8 with a scale per
// row and 32 k; per block the integer sum of products is exact, then sum += sum_i * (d * scale), and for Q4_1
// sum += m * (scale * sum of the block's activations).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/cpu/kernel_table.h"

namespace redline::cpu {
namespace {

constexpr int kRows = 16;
constexpr int kTile = 4;

// One row's 32 activations.
struct ActivationBlock {
  std::int8_t q[32];
  float scale;
  std::int32_t sum;
};

constexpr bool is_float(DType type) { return !is_quantized(type); }

template <DType kType>
std::int64_t activation_bytes(std::int64_t m, std::int64_t k) {
  return is_float(kType) ? m * k * 4 : m * (k / 32) * static_cast<std::int64_t>(sizeof(ActivationBlock));
}

void quantize_block(const float* x, ActivationBlock* block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  block->scale = largest / 127.0f;
  const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
  block->sum = 0;
  for (int i = 0; i < 32; ++i) {
    block->q[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
    block->sum += block->q[i];
  }
}

template <DType kType>
void prepare(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t, std::int64_t k,
             std::int64_t first, std::int64_t count) {
  for (std::int64_t row = first; row < first + count; ++row) {
    const float* in = x + row * x_stride;
    if constexpr (is_float(kType)) {
      std::memcpy(activations + row * k * 4, in, static_cast<std::size_t>(k) * 4);
    } else {
      auto* blocks = reinterpret_cast<ActivationBlock*>(activations) + row * (k / 32);
      for (std::int64_t b = 0; b < k / 32; ++b) quantize_block(in + 32 * b, blocks + b);
    }
  }
}

template <DType kType>
float element(const std::byte* panel, std::int64_t index) {
  if constexpr (kType == DType::kF32) return reinterpret_cast<const float*>(panel)[index];
  const std::uint16_t half = reinterpret_cast<const std::uint16_t*>(panel)[index];
  return kType == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

template <DType kType>
void accumulate_floats(const std::byte* panel, const float* x, std::int64_t k, float* sums) {
  for (std::int64_t i = 0; i < k; ++i)
    for (int r = 0; r < kRows; ++r) sums[r] += element<kType>(panel, i * kRows + r) * x[i];
}

// products[r] += the block's integers of row r times x, nibbles as 0 .. 15.
template <DType kType>
void dot_block(const std::byte* quads, const std::int8_t* x, std::int32_t* products) {
  for (int q = 0; q < BlockLayout<kType>::kQuads; ++q)
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < 4; ++i) {
        const auto byte = static_cast<std::uint8_t>(quads[(q * kRows + r) * 4 + i]);
        if constexpr (kType == DType::kQ8_0)
          products[r] += static_cast<std::int8_t>(byte) * x[4 * q + i];
        else
          products[r] += (byte & 15) * x[4 * q + i] + (byte >> 4) * x[16 + 4 * q + i];
      }
}

template <DType kType>
void accumulate_blocks(const std::byte* panel, const ActivationBlock* x, std::int64_t num_blocks,
                       float* sums) {
  using Layout = BlockLayout<kType>;
  for (std::int64_t b = 0; b < num_blocks; ++b, panel += kRows * Layout::kBytes) {
    const auto* d = reinterpret_cast<const std::uint16_t*>(panel);
    std::int32_t products[kRows] = {};
    dot_block<kType>(panel + kRows * Layout::kHeaderBytes, x[b].q, products);
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t product = products[r] - (kType == DType::kQ4_0 ? 8 * x[b].sum : 0);
      sums[r] += static_cast<float>(product) * (f16_to_f32(d[r]) * x[b].scale);
      if constexpr (kType == DType::kQ4_1)
        sums[r] += f16_to_f32(d[kRows + r]) * (x[b].scale * static_cast<float>(x[b].sum));
    }
  }
}

// Rows beyond the matrix (the last panel's padding) are not written.
void store_panel(const LinearTask& task, std::int64_t panel, std::int64_t row, const float* sums) {
  float* out = task.out + row * task.out_stride;
  const std::int64_t width = task.gate_up ? kRows / 2 : kRows, n = task.gate_up ? task.n / 2 : task.n;
  for (std::int64_t r = 0; r < width && panel * width + r < n; ++r)
    out[panel * width + r] = task.gate_up ? sums[r] / (1 + std::exp(-sums[r])) * sums[r + width] : sums[r];
}

template <DType kType>
void multiply(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
              std::int64_t first_row, std::int64_t last_row) {
  const std::int64_t bytes = panel_bytes({kType, kRows}, task.k);
  for (std::int64_t p = first_panel; p < last_panel; ++p) {
    const std::byte* panel = task.weight + p * bytes;
    for (std::int64_t row = first_row; row < last_row; ++row) {
      float sums[kRows] = {};
      if constexpr (is_float(kType))
        accumulate_floats<kType>(panel, reinterpret_cast<const float*>(task.activations) + row * task.k,
                                 task.k, sums);
      else
        accumulate_blocks<kType>(
            panel, reinterpret_cast<const ActivationBlock*>(task.activations) + row * (task.k / 32),
            task.k / 32, sums);
      store_panel(task, p, row, sums);
    }
  }
}

template <DType kType>
constexpr MatrixKernel kernel() {
  return {.panel = {kType, kRows},
          .max_tile_rows = kTile,
          .compute = is_float(kType) ? ComputeType::kF32 : ComputeType::kInt8,
          .activation_bytes = activation_bytes<kType>,
          .prepare = prepare<kType>,
          .multiply = multiply<kType>};
}

}  // namespace

constinit const MatrixKernel kF32Portable = kernel<DType::kF32>();
constinit const MatrixKernel kF16Portable = kernel<DType::kF16>();
constinit const MatrixKernel kBF16Portable = kernel<DType::kBF16>();
constinit const MatrixKernel kQ8_0Portable = kernel<DType::kQ8_0>();
constinit const MatrixKernel kQ4_0Portable = kernel<DType::kQ4_0>();
constinit const MatrixKernel kQ4_1Portable = kernel<DType::kQ4_1>();

}  // namespace redline::cpu
