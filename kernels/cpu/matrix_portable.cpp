// Matrix kernels in plain C++: what machines without AVX2 run, and the shape of the fast ones.
//
// Sums: per output one chain over k, whatever the number of rows. Floats: sum += w * x. Quantised:
// activations are int8 with a scale per row and 32 k; per group of k the integer sum of products is exact,
// then sum += sum_i * ((d s) * scale), and where the type has minima sum += (m t) * (scale * sum of the
// activations).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/cpu/codec.h"
#include "kernels/cpu/kernel_table.h"

namespace redline::cpu {
namespace {

constexpr int kTile = 4;

/// Writes one output row's sums of a panel, but for the panel's padding.
template <int kRows>
void store_panel(const LinearTask& task, std::int64_t panel, std::int64_t row, const float* sums) {
  float* out = task.out + row * task.out_stride;
  const std::int64_t width = task.gate_up ? kRows / 2 : kRows, n = task.gate_up ? task.n / 2 : task.n;
  for (std::int64_t r = 0; r < width && panel * width + r < n; ++r)
    out[panel * width + r] = task.gate_up ? sums[r] / (1 + std::exp(-sums[r])) * sums[r + width] : sums[r];
}

// ---- Floats

template <DType kType>
struct Floats {
  static constexpr int kRows = 16;

  static std::int64_t activation_bytes(std::int64_t m, std::int64_t k) { return m * k * 4; }

  static void prepare(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t,
                      std::int64_t k, std::int64_t first, std::int64_t count) {
    for (std::int64_t row = first; row < first + count; ++row)
      std::memcpy(activations + row * k * 4, x + row * x_stride, static_cast<std::size_t>(k) * 4);
  }

  static float element(const std::byte* panel, std::int64_t index) {
    if constexpr (kType == DType::kF32) return reinterpret_cast<const float*>(panel)[index];
    const std::uint16_t half = reinterpret_cast<const std::uint16_t*>(panel)[index];
    return kType == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
  }

  static void multiply(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
                       std::int64_t first_row, std::int64_t last_row) {
    const std::int64_t bytes = panel_bytes({kType, kRows}, task.k);
    for (std::int64_t p = first_panel; p < last_panel; ++p)
      for (std::int64_t row = first_row; row < last_row; ++row) {
        const auto* x = reinterpret_cast<const float*>(task.activations) + row * task.k;
        float sums[kRows] = {};
        for (std::int64_t i = 0; i < task.k; ++i)
          for (int r = 0; r < kRows; ++r) sums[r] += element(task.weight + p * bytes, i * kRows + r) * x[i];
        store_panel<kRows>(task, p, row, sums);
      }
  }
};

// ---- Blocks as they are

/// F8E4M3, on every instruction set so far: blocks are dequantised as they come, and sum += w * x over k in
/// order, one chain per output, in GEMV as in GEMM.
struct WholeBlocks : Floats<DType::kF32> {
  static constexpr DType kType = DType::kF8E4M3;

  static void multiply(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
                       std::int64_t first_row, std::int64_t last_row) {
    constexpr int kElements = traits(kType).block_elements, kBytes = traits(kType).block_bytes;
    const auto* x = reinterpret_cast<const float*>(task.activations);
    const std::byte* block = task.weight + first_panel * kRows * row_bytes(kType, task.k);
    for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
      float sums[kDefaultTaskRows][kRows] = {};
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
        store_panel<kRows>(task, panel, row, sums[row - first_row]);
    }
  }
};

// ---- Quantised types

/// Four lanes that the compiler maps to what vectors the machine has.
struct Lanes4 {
  using Int = std::uint32_t __attribute__((vector_size(16)));
  using Signed = std::int32_t __attribute__((vector_size(16)));
  using Float = float __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;

  static Int load(const void* p) {
    Int x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static Int broadcast(int x) { return Int{} + static_cast<std::uint32_t>(x); }
  static Int shift_left(Int x, int count) { return x << count; }
  static Int shift_right(Int x, int count) { return x >> count; }
  static Int sign_extend_byte(Int x) {
    return reinterpret_cast<Int>(reinterpret_cast<Signed>(x << 24) >> 24);
  }
  static Int bit_and(Int a, Int b) { return a & b; }
  static Int bit_or(Int a, Int b) { return a | b; }
  static Int add(Int a, Int b) { return a + b; }
  static Int look_up(const std::int8_t* table, Int indices) {
    std::uint8_t codes[16];
    std::memcpy(codes, &indices, sizeof codes);
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(table[code]);
    return load(codes);
  }
  static Float to_float(Int x) { return __builtin_convertvector(reinterpret_cast<Signed>(x), Float); }
  static Float as_float(Int x) { return reinterpret_cast<Float>(x); }
  static Float half_of(Float x) { return x * 0.5f; }
  static Float load_halves(const void* p) {
    const auto* halves = static_cast<const std::byte*>(p);
    const auto half = [halves](int i) { return f16_to_f32(redline::load_u16(halves + 2 * i)); };
    return Float{half(0), half(1), half(2), half(3)};
  }
  static Int load_u16(const void* p) { return widened<std::uint16_t>(p); }
  static Int load_u8(const void* p) { return widened<std::uint8_t>(p); }

 private:
  template <class Element>
  static Int widened(const void* p) {
    Element e[4];
    std::memcpy(e, p, sizeof e);
    return Int{e[0], e[1], e[2], e[3]};
  }
};

template <DType kType>
struct Quantized {
  using C = Codec<Lanes4, kType>;
  using Int = Lanes4::Int;
  using Float = Lanes4::Float;
  static constexpr int kRows = C::kRows, kGroups = 32 / C::kGroup;

  /// One row's 32 activations.
  struct Activations {
    std::int8_t a[32];
    float scale;
    std::int32_t sums[kGroups];
  };

  static std::int64_t activation_bytes(std::int64_t m, std::int64_t k) {
    return m * (k / 32) * static_cast<std::int64_t>(sizeof(Activations));
  }

  static void quantize(const float* x, Activations* to) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
    to->scale = largest / 127.0f;
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    std::fill_n(to->sums, kGroups, 0);
    for (int i = 0; i < 32; ++i) {
      to->a[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
      to->sums[i / C::kGroup] += to->a[i];
    }
  }

  static void prepare(std::byte* activations, const float* x, std::int64_t x_stride, std::int64_t,
                      std::int64_t k, std::int64_t first, std::int64_t count) {
    auto* to = reinterpret_cast<Activations*>(activations) + first * (k / 32);
    for (std::int64_t row = first; row < first + count; ++row)
      for (std::int64_t b = 0; b < k / 32; ++b) quantize(x + row * x_stride + 32 * b, to++);
  }

  /// sums[row][kRows] += group g of subblock s for all rows.
  static void add_group(const std::byte* unit, int s, int g, int v, const Activations* x, std::int64_t stride,
                        std::int64_t num_rows, float* sums) {
    const int group = s * kGroups + g;
    Float d = C::d(unit, v), m{};
    if constexpr (C::kHasScales) d *= Lanes4::to_float(C::scale(unit, group, v));
    if constexpr (C::kMinimum != 0) {
      m = static_cast<float>(C::kMinimum) * C::m(unit, v);
      if constexpr (C::kHasScales) m *= Lanes4::to_float(C::minimum(unit, group, v));
    }
    Int codes[8 / kGroups][4];
    for (int q = 0; q < 8 / kGroups; ++q) {
      const Int quad = C::quad(unit, s, g * 8 / kGroups + q, v);
      for (int i = 0; i < 4; ++i) {
        const Int byte = quad >> 8 * i;
        codes[q][i] = C::kIsSigned ? Lanes4::sign_extend_byte(byte) : byte & 255;
      }
    }
    for (std::int64_t row = 0; row < num_rows; ++row, x += stride, sums += kRows) {
      Int products{};
      for (int q = 0; q < 8 / kGroups; ++q)
        for (int i = 0; i < 4; ++i)
          products += codes[q][i] * static_cast<std::uint32_t>(x->a[g * C::kGroup + 4 * q + i]);
      products -= static_cast<std::uint32_t>(C::kOffset * x->sums[g]);
      Float sum;
      std::memcpy(&sum, sums + v * Lanes4::kWidth, sizeof sum);
      sum += Lanes4::to_float(products) * (d * x->scale);
      if constexpr (C::kMinimum != 0) sum += m * (x->scale * static_cast<float>(x->sums[g]));
      std::memcpy(sums + v * Lanes4::kWidth, &sum, sizeof sum);
    }
  }

  static void multiply(const LinearTask& task, std::int64_t first_panel, std::int64_t last_panel,
                       std::int64_t first_row, std::int64_t last_row) {
    const std::int64_t blocks = task.k / 32, units = blocks / C::kSubblocks;
    const auto* x = reinterpret_cast<const Activations*>(task.activations) + first_row * blocks;
    const std::byte* unit = task.weight + first_panel * units * C::kUnitBytes;
    for (std::int64_t p = first_panel; p < last_panel; ++p) {
      float sums[kDefaultTaskRows * kRows];
      std::fill_n(sums, (last_row - first_row) * kRows, 0.0f);
      for (std::int64_t u = 0; u < units; ++u, unit += C::kUnitBytes)
        for (int s = 0; s < C::kSubblocks; ++s)
          for (int g = 0; g < kGroups; ++g)
            for (int v = 0; v < 2; ++v)
              add_group(unit, s, g, v, x + u * C::kSubblocks + s, blocks, last_row - first_row, sums);
      for (std::int64_t row = first_row; row < last_row; ++row)
        store_panel<kRows>(task, p, row, sums + (row - first_row) * kRows);
    }
  }
};

template <class K>
constexpr MatrixKernel kernel(DType dtype, ComputeType compute) {
  return {.panel = {dtype, K::kRows},
          .max_tile_rows = kTile,
          .compute = compute,
          .activation_bytes = K::activation_bytes,
          .prepare = K::prepare,
          .multiply = K::multiply};
}
template <DType kType>
constexpr MatrixKernel floats() {
  return kernel<Floats<kType>>(kType, ComputeType::kF32);
}
template <DType kType>
constexpr MatrixKernel quantized() {
  return kernel<Quantized<kType>>(kType, ComputeType::kInt8);
}

}  // namespace

constinit const MatrixKernel kFloatPortable[kNumFloatTypes] = {floats<DType::kF32>(), floats<DType::kF16>(),
                                                               floats<DType::kBF16>()};
constinit const MatrixKernel kQuantizedPortable[kNumQuantizedTypes] = {
    quantized<DType::kQ8_0>(),  quantized<DType::kQ4_0>(),   quantized<DType::kQ4_1>(),
    quantized<DType::kQ5_0>(),  quantized<DType::kQ5_1>(),   quantized<DType::kQ2_K>(),
    quantized<DType::kQ3_K>(),  quantized<DType::kQ4_K>(),   quantized<DType::kQ5_K>(),
    quantized<DType::kQ6_K>(),  quantized<DType::kIQ4_NL>(), quantized<DType::kIQ4_XS>(),
    quantized<DType::kMXFP4>(),
};
constinit const MatrixKernel kF8E4M3Portable = [] {
  MatrixKernel whole_blocks = kernel<WholeBlocks>(DType::kF8E4M3, ComputeType::kF32);
  whole_blocks.panel.whole_blocks = true;
  return whole_blocks;
}();

}  // namespace redline::cpu
