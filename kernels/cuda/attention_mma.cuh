// What the mma.sync kernels of attention share: rows of bf16 in shared memory, fragments, masks.
//
// m16n8k16 (PTX ISA): lane = 4 g + t. A: a0 (row g, k 2t..), a1 (g + 8), a2 (g, k + 8), a3 (g + 8, k + 8);
// B: b0 (k 2t.., column g), b1 (k + 8); C: c0, c1 (row g, columns 2t, 2t + 1), c2, c3 (row g + 8). So the C
// fragments of two neighbouring score tiles are, packed to bf16, the A fragment of the product with V.
//
// A row of D elements takes D + 8 in shared memory: an odd number of 16-byte chunks, so the eight rows of an
// ldmatrix matrix fall on different banks, and no index needs a swizzle.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.h"

namespace redline::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr float kLog2E = 1.44269504088896f;
template <int D>
inline constexpr int kSharedRow = D + 8;  // elements

DEV_INLINE std::uint32_t pack_bf16(float low, float high) {
  const dev::bf162 pair = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

/// Row of the cache, counted in rows of head_dim, that holds K of `token`; V's is block_size further. -1
/// beyond `length`.
DEV_INLINE int cache_row(const KvView& kv, const std::int32_t* table, int token, int length, int kv_head) {
  if (token >= length) return -1;
  const int block = token / kv.block_size;
  return (table[block] * kv.num_kv_heads + kv_head) * 2 * kv.block_size + token - block * kv.block_size;
}

/// scores[2 j], [2 j + 1] += a * K^T for keys 16 j ... of a shared tile; `step`: which 16 columns of D.
template <int D>
DEV_INLINE void load_key_fragment(std::uint32_t (&fragment)[4], const dev::bf16* keys, int first_key,
                                  int step, int lane) {
  dev::ldmatrix_x4(
      fragment, keys + (first_key + lane % 8 + lane / 16 * 8) * kSharedRow<D> + step * 16 + lane / 8 % 2 * 8);
}
template <int D>
DEV_INLINE void load_value_fragment(std::uint32_t (&fragment)[4], const dev::bf16* values, int first_key,
                                    int first_column, int lane) {
  dev::ldmatrix_x4_trans(fragment,
                         values + (first_key + lane % 16) * kSharedRow<D> + first_column + lane / 16 * 8);
}
template <int D>
DEV_INLINE void load_query_fragment(std::uint32_t (&fragment)[4], const dev::bf16* queries, int first_row,
                                    int step, int lane) {
  dev::ldmatrix_x4(fragment, queries + (first_row + lane % 16) * kSharedRow<D> + step * 16 + lane / 16 * 8);
}

}  // namespace redline::cuda
