// Q8_0 matrices on AVX2.
//
// Formula: x is quantised to int8 a with a scale s per row and 32 k (x ~ s a). Per block y += (d s) sum(q a),
// one fp32 chain over blocks per output, the same in GEMV and GEMM; the integers are exact: both factors are
// widened to int16 and pmaddwd adds pairs in int32. (Bytes times bytes would not fit the int16 that maddubs
// adds in.)
//
// Layout: panels of 16 rows (panel_layout.h), two vectors of 8. A quad of k splits into its even and its odd
// pair by shifts alone, and activations lie as such pairs. A thread owns whole panels. Up to 4 rows (GEMV):
// weights widen in registers and are read once, in order; the limit is memory bandwidth. More (GEMM): a chunk
// of a panel is widened once into L1 (17 KB); the limit is two pmaddwd a cycle.
//
// Measured on Zen 3 (EPYC, 2 cores of a virtual machine, busy with other programs), one thread on its own
// clock, 4096 x 2048 weights, medians of pairs with a bare loop or a read of the same bytes
// (redline_kernel_bench
// --own-clock): with 512 rows 72 % of what pmaddwd attains
// (106 GOP/s), with 8 rows 47 % of the roofline, with 1 row the whole of the read.
#if defined(__x86_64__)
#include "kernels/cpu/matrix_driver.h"

namespace redline::cpu {
namespace {

inline __m256i even_bytes(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
inline __m256i odd_bytes(__m256i v) { return _mm256_srai_epi16(v, 8); }

/// T rows of 32 k: pair 2 q is the even half of quad q, pair 2 q + 1 the odd half.
template <int T>
struct PairTile {
  int16_t q[16][T][2];
  float scale[T];
};

struct Q8 {
  static constexpr int kPanelRows = 16, kTile = 4;
  static constexpr int64_t kUnit = 32, kMaxChunk = 16;
  static constexpr int64_t kUnitBytes = kPanelRows * BlockLayout<DType::kQ8_0>::kBytes;
  static constexpr int64_t kHeaderBytes = kPanelRows * BlockLayout<DType::kQ8_0>::kHeaderBytes;
  static constexpr int64_t kRowUnitBytes = sizeof(PairTile<1>);

  struct Block {
    int16_t q[16][2][16];
    float d[2][8];
  };
  struct Wide {
    alignas(64) Block blocks[kMaxChunk];
  };

  template <int T>
  static void prepare_tile(std::byte* out, const float* x, int64_t x_stride, int64_t length, int64_t) {
    auto* tile = reinterpret_cast<PairTile<T>*>(out);
    for (int64_t b = 0; b < length; ++b, ++tile)
      for (int t = 0; t < T; ++t) {
        const Quantized32 block = quantize_32(x + t * x_stride + 32 * b);
        alignas(32) int16_t even[16], odd[16];
        store_256(even, even_bytes(block.q));
        store_256(odd, odd_bytes(block.q));
        for (int q = 0; q < 8; ++q) {
          memcpy(tile->q[2 * q][t], even + 2 * q, 4);
          memcpy(tile->q[2 * q + 1][t], odd + 2 * q, 4);
        }
        tile->scale[t] = block.scale;
      }
  }

  static __m256 add_block(__m256 acc, __m256i products, __m256 d, float scale) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(d, _mm256_set1_ps(scale)), acc);
  }

  template <int T>
  static void gemv(const LinearTask& task, int64_t first_panel, int64_t last_panel) {
    const int64_t blocks = task.k / 32;
    const std::byte* block = task.weight + first_panel * blocks * kUnitBytes;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const auto* x = reinterpret_cast<const PairTile<T>*>(task.activations);
      __m256 acc[T][2];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
      for (int64_t b = 0; b < blocks; ++b, ++x, block += kUnitBytes) {
        prefetch<kUnitBytes>(block, kPrefetchBytes);
        __m256i products[T][2];
#pragma GCC unroll 8
        for (int q = 0; q < 8; ++q)
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m256i w = load_256(block + kHeaderBytes + 64 * q + 32 * v);
            const __m256i even = even_bytes(w), odd = odd_bytes(w);
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) {
              const __m256i a = _mm256_madd_epi16(even, broadcast_quad(x->q[2 * q][t]));
              const __m256i b32 = _mm256_madd_epi16(odd, broadcast_quad(x->q[2 * q + 1][t]));
              products[t][v] = q ? _mm256_add_epi32(products[t][v], a) : a;
              products[t][v] = _mm256_add_epi32(products[t][v], b32);
              pin(products[t][v]);
            }
          }
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m256 d = load_half8(block + 16 * v);
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) acc[t][v] = add_block(acc[t][v], products[t][v], d, x->scale[t]);
        }
      }
      store_sums(task, panel, acc);
    }
  }

  static const Block* widen(const std::byte* panel, int64_t length, Wide& wide) {
    Block* out = wide.blocks;
    for (int64_t b = 0; b < length; ++b, ++out, panel += kUnitBytes) {
      prefetch<kUnitBytes>(panel, length * kUnitBytes);  // the next chunk, while this one is multiplied
      for (int q = 0; q < 8; ++q)
        for (int v = 0; v < 2; ++v) {
          const __m256i w = load_256(panel + kHeaderBytes + 64 * q + 32 * v);
          store_256(out->q[2 * q][v], even_bytes(w));
          store_256(out->q[2 * q + 1][v], odd_bytes(w));
        }
      for (int v = 0; v < 2; ++v) _mm256_store_ps(out->d[v], load_half8(panel + 16 * v));
    }
    return wide.blocks;
  }

  template <int T>
  __attribute__((noinline)) static void multiply_tile(const Block* w, const std::byte* activations,
                                                      int64_t length, float* sums) {
    const auto* x = reinterpret_cast<const PairTile<T>*>(activations);
    __m256 acc[T][2];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) acc[t][v] = _mm256_load_ps(sums + 16 * t + 8 * v);
    for (int64_t b = 0; b < length; ++b, ++w, ++x) {
      __m256i products[T][2];
#pragma GCC unroll 16
      for (int k = 0; k < 16; ++k)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const __m256i a = broadcast_quad(x->q[k][t]);
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m256i product = _mm256_madd_epi16(load_256(w->q[k][v]), a);
            products[t][v] = k ? _mm256_add_epi32(products[t][v], product) : product;
            pin(products[t][v]);
          }
        }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v)
          acc[t][v] = add_block(acc[t][v], products[t][v], _mm256_load_ps(w->d[v]), x->scale[t]);
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) _mm256_store_ps(sums + 16 * t + 8 * v, acc[t][v]);
  }
};

}  // namespace

constinit const MatrixKernel kQ8_0Avx2 = kernel<Q8>({DType::kQ8_0, 16}, ComputeType::kInt16);

}  // namespace redline::cpu
#endif
