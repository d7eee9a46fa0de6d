// The frame of every x86 matrix kernel: how activations lie, which of its loops meets them, chunks of K, the
// store. Included only by matrix_*_avx2.cpp and matrix_*_avx512.cpp; everything has internal linkage, so that
// no code of one instruction set can serve another.
//
// A kernel K multiplies panels of kPanelRows rows in units of kUnit k (a block of 32, a pair, or one):
//   kTile            most rows of activations in a tile; kMaxChunk: most units in a chunk
//   kPackedTiles     up to so many tiles unpacking weights again for each costs less than a copy
//   kPanelsAtOnce<T> panels that one tile of T rows alone meets side by side
//   kUnitBytes       of a panel; kRowUnitBytes: of one prepared row
//   prepare_tile<T>  prepares T rows of `length` units, of which k elements exist
//   multiply_packed<T, P> sums[P][T][kPanelRows] += `length` units, straight from the packed bytes of P
//                    panels `stride` bytes apart, times a tile
//   Wide             a chunk of a panel unpacked, in L1; widen(panel, length, wide) fills it
//   multiply_tile<T> sums[T][kPanelRows] += such a chunk times a tile
//
// Prepared rows lie as [chunk][tile][unit][row of the tile], so that a tile's pass over a chunk is one stream
// and the tiles of a chunk follow each other. One tile alone is plain [unit][row]. Sums of a task stay in a
// compact array: output rows a power of two apart would fight for the same cache sets.
#pragma once

#include <type_traits>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd_avx2.h"

namespace redline::cpu {
namespace {

constexpr int64_t kPrefetchBytes = 2048;

constexpr int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Calls f(integral_constant<int, min(rows, kMost)>).
template <int kMost, class F>
inline void with_rows(int64_t rows, F&& f) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return with_rows<kMost - 1>(rows, f);
  }
  f(std::integral_constant<int, kMost>{});
}

/// K in chunks of at most `most` units, as equal as they come: the same for every row of a matrix.
struct Chunks {
  int64_t total, size;
  Chunks(int64_t units, int64_t most)
      : total(units), size(units == 0 ? 1 : ceil_of(units, ceil_of(units, most))) {}
  int64_t length(int64_t first) const { return min_of(size, total - first); }
};

/// Writes one output row's sums (half gate, half up) of a panel, but for the panel's padding.
template <int kPanelRows>
inline void store_row(const LinearTask& task, int64_t panel, int64_t row, const float* sums) {
  float* out = task.out + row * task.out_stride;
  const int64_t width = task.gate_up ? kPanelRows / 2 : kPanelRows, n = task.gate_up ? task.n / 2 : task.n;
  for (int64_t i = 0; i < width; i += 8) {
    const __m256 first = _mm256_loadu_ps(sums + i);
    const __m256 value = task.gate_up ? silu_mul8(first, _mm256_loadu_ps(sums + width + i)) : first;
    store_first(out + panel * width + i, value, n - panel * width - i);
  }
}

/// Touches the kBytes that follow `p + ahead`.
template <int64_t kBytes>
inline void prefetch(const std::byte* p, int64_t ahead) {
#pragma GCC unroll 32
  for (int64_t i = 0; i < kBytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(p) + ahead + i, _MM_HINT_T0);
}

template <class K>
int64_t activation_bytes(int64_t m, int64_t k) {
  return m * ceil_of(k, K::kUnit) * K::kRowUnitBytes;
}

/// Rows of the tile at `row`, in the chunk of `length` units from `first`.
template <class K>
inline int64_t tile_offset(int64_t m, int64_t first, int64_t length, int64_t row) {
  return (first * m + length * row) * K::kRowUnitBytes;
}

template <class K>
void prepare(std::byte* activations, const float* x, int64_t x_stride, int64_t m, int64_t k, int64_t first,
             int64_t count) {
  const int64_t tile = tile_rows(m, K::kTile);
  const Chunks chunks(ceil_of(k, K::kUnit), K::kMaxChunk);
  for (int64_t u = 0; u < chunks.total; u += chunks.size)
    for (int64_t row = first; row < first + count; row += tile) {
      const int64_t length = chunks.length(u);
      std::byte* out = activations + tile_offset<K>(m, u, length, row);
      with_rows<K::kTile>(min_of(tile, first + count - row), [&](auto rows) {
        K::template prepare_tile<rows>(out, x + row * x_stride + u * K::kUnit, x_stride, length,
                                       k - u * K::kUnit);
      });
    }
}

/// One tile: weights are read once, in order, several panels at a time if a few sums would wait for each
/// other.
template <class K, int T>
void gemv(const LinearTask& task, int64_t first_panel, int64_t last_panel) {
  constexpr int kMost = K::template kPanelsAtOnce<T>;
  const int64_t units = ceil_of(task.k, K::kUnit), panel_bytes = units * K::kUnitBytes;
  alignas(64) float sums[kMost * T * K::kPanelRows];
  const auto multiply_panels = [&](int64_t panel, auto at_once) {
    memset(sums, 0, sizeof(sums));
    K::template multiply_packed<T, at_once>(task.weight + panel * panel_bytes, panel_bytes, task.activations,
                                            units, sums);
    for (int64_t p = 0; p < at_once; ++p)
      for (int64_t t = 0; t < T; ++t)
        store_row<K::kPanelRows>(task, panel + p, t, sums + (p * T + t) * K::kPanelRows);
  };
  int64_t panel = first_panel;
  for (; panel + kMost <= last_panel; panel += kMost)
    multiply_panels(panel, std::integral_constant<int, kMost>{});
  for (; panel < last_panel; ++panel) multiply_panels(panel, std::integral_constant<int, 1>{});
}

/// Several tiles: a chunk of a panel stays in L1, packed or unpacked, while they pass.
template <class K, bool kPacked>
void gemm(const LinearTask& task, int64_t panel, int64_t first_row, int64_t last_row) {
  alignas(64) float sums[kDefaultTaskRows * K::kPanelRows];
  const int64_t tile = tile_rows(task.m, K::kTile);
  const Chunks chunks(ceil_of(task.k, K::kUnit), K::kMaxChunk);
  memset(sums, 0, static_cast<size_t>((last_row - first_row) * K::kPanelRows) * sizeof(float));
  const auto for_each_tile = [&](int64_t u, auto multiply_chunk) {
    for (int64_t row = first_row; row < last_row; row += tile)
      with_rows<K::kTile>(min_of(tile, last_row - row), [&](auto rows) {
        multiply_chunk(rows, task.activations + tile_offset<K>(task.m, u, chunks.length(u), row),
                       sums + (row - first_row) * K::kPanelRows);
      });
  };
  const std::byte* weight = task.weight + panel * chunks.total * K::kUnitBytes;
  for (int64_t u = 0; u < chunks.total; u += chunks.size) {
    const std::byte* packed = weight + u * K::kUnitBytes;
    const int64_t length = chunks.length(u);
    if constexpr (kPacked) {
      for_each_tile(u, [&](auto rows, const std::byte* x, float* out) {
        K::template multiply_packed<rows, 1>(packed, 0, x, length, out);
      });
    } else {
      alignas(64) typename K::Wide wide;
      const auto* w = K::widen(packed, length, wide);
      for_each_tile(u, [&](auto rows, const std::byte* x, float* out) {
        K::template multiply_tile<rows>(w, x, length, out);
      });
    }
  }
  for (int64_t row = first_row; row < last_row; ++row)
    store_row<K::kPanelRows>(task, panel, row, sums + (row - first_row) * K::kPanelRows);
}

template <class K>
void multiply(const LinearTask& task, int64_t first_panel, int64_t last_panel, int64_t first_row,
              int64_t last_row) {
  if (task.m <= K::kTile)
    return with_rows<K::kTile>(task.m, [&](auto rows) { gemv<K, rows>(task, first_panel, last_panel); });
  const bool packed = task.m <= K::kPackedTiles * K::kTile;
  for (int64_t panel = first_panel; panel < last_panel; ++panel)
    if (packed)
      gemm<K, true>(task, panel, first_row, last_row);
    else
      gemm<K, false>(task, panel, first_row, last_row);
}

template <class K>
constexpr MatrixKernel kernel(PanelFormat format, ComputeType compute) {
  return {.panel = format,
          .max_tile_rows = K::kTile,
          .compute = compute,
          .activation_bytes = activation_bytes<K>,
          .prepare = prepare<K>,
          .multiply = multiply<K>};
}

// ---- Activations of quantised weights

/// 32 floats as int8 times a scale: q = round(x / scale), scale = max |x| / 127; all zero below 1e-30.
struct Quantized32 {
  __m256i q;
  float scale;
  int32_t sums[2];  // of q's halves
};

inline Quantized32 quantize_32(const float* x) {
  const __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8), x2 = _mm256_loadu_ps(x + 16),
               x3 = _mm256_loadu_ps(x + 24), sign = _mm256_set1_ps(-0.0f);
  const __m256 largest8 =
      _mm256_max_ps(_mm256_max_ps(_mm256_andnot_ps(sign, x0), _mm256_andnot_ps(sign, x1)),
                    _mm256_max_ps(_mm256_andnot_ps(sign, x2), _mm256_andnot_ps(sign, x3)));
  __m128 largest4 = _mm_max_ps(_mm256_castps256_ps128(largest8), _mm256_extractf128_ps(largest8, 1));
  largest4 = _mm_max_ps(largest4, _mm_movehl_ps(largest4, largest4));
  const float largest = _mm_cvtss_f32(_mm_max_ss(largest4, _mm_movehdup_ps(largest4)));
  const __m256 inverse = _mm256_set1_ps(largest > 1e-30f ? 127.0f / largest : 0.0f);
  const __m256i i0 = _mm256_cvtps_epi32(_mm256_mul_ps(x0, inverse)),
                i1 = _mm256_cvtps_epi32(_mm256_mul_ps(x1, inverse)),
                i2 = _mm256_cvtps_epi32(_mm256_mul_ps(x2, inverse)),
                i3 = _mm256_cvtps_epi32(_mm256_mul_ps(x3, inverse));
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(i0, i1), _mm256_packs_epi32(i2, i3));
  const __m256i halves = _mm256_hadd_epi32(_mm256_add_epi32(i0, i1), _mm256_add_epi32(i2, i3));
  __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  sums = _mm_hadd_epi32(sums, sums);
  return {_mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)),
          largest / 127.0f,
          {_mm_cvtsi128_si32(sums), _mm_extract_epi32(sums, 1)}};
}

}  // namespace
}  // namespace redline::cpu
