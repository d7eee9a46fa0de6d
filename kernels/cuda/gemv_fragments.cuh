// How tensor cores multiply rows of W by tokens straight from how W is stored: mma.m16n8k16 with 16 rows of W
// as A and 8 tokens as B.
//
// A sum over k may take k in any order, so a lane takes 16 contiguous bytes of its rows and calls them its
// fragments; x is read in the order that matches. Per 64-byte chunk of a row, lane (g, t) of the fragment's
// 8 x 4 grid holds bytes [16 t, 16 t + 16) of rows g ("low") and g + 8 ("high").
//   BF16: those are two k16 fragments.
//   F16:  the same, after each element is split into two bf16: its leading 8 bits, and the rest.
//   Q8_0: a chunk is two groups; lanes t and t ^ 2 exchange halves, so that a lane holds 8 bytes of each.
//   Q4:   a chunk is four groups, one a lane; the four lanes transpose their words, so that a lane holds
//         8 nibbles of each. Q6_K's high bits lie so that a lane loads its own.
// Then a fragment never mixes groups, and a group's product is scaled in f32 after its two mma; of Q6_K,
// whose scales are for 16 columns, after each.
//
// Numerics: integers widen to bf16 exactly; products are exact; sums are f32. A minimum multiplies the sum of
// x over the group, an mma with ones.
#pragma once

#include "kernels/cuda/linear_args.cuh"

namespace redline::cuda {

inline constexpr int kTileRows = 16;

/// Columns in 64 bytes of a row.
template <DType kType>
inline constexpr int kChunkColumns = !kIsQuantized<kType>    ? 32
                                     : kType == DType::kQ8_0 ? 64
                                                             : 128;

/// A lane's share of a chunk's high bits: of group j the half word j.
template <DType kType>
struct HighBits {};
template <>
struct HighBits<DType::kQ6_K> {
  std::uint32_t high[2];
};
/// A lane's share of a row's chunk: words [4 / n j, 4 / n (j + 1)) are of group j of the chunk's n.
template <DType kType>
struct RowWords : HighBits<kType> {
  std::uint32_t of[4];
};

// After this, words [4 / n j, 4 / n (j + 1)) of `words` are the lane's of group j of the chunk's n.
template <DType kType>
DEV_INLINE void exchange(const uint4& quants, std::uint32_t (&words)[4]) {
  const bool odd = lane_index() & 1, upper = lane_index() & 2;
  words[0] = quants.x, words[1] = quants.y, words[2] = quants.z, words[3] = quants.w;
  if constexpr (has_nibbles(kType)) {
    // Transposes 2 x 2 blocks of words between neighbours.
    const std::uint32_t even_pair = __shfl_xor_sync(kAllLanes, odd ? words[0] : words[1], 1);
    const std::uint32_t odd_pair = __shfl_xor_sync(kAllLanes, odd ? words[2] : words[3], 1);
    (odd ? words[0] : words[1]) = even_pair;
    (odd ? words[2] : words[3]) = odd_pair;
  }
  if constexpr (kIsQuantized<kType>) {
    const std::uint32_t first = __shfl_xor_sync(kAllLanes, upper ? words[0] : words[2], 2);
    const std::uint32_t second = __shfl_xor_sync(kAllLanes, upper ? words[1] : words[3], 2);
    (upper ? words[0] : words[2]) = first;
    (upper ? words[1] : words[3]) = second;
  }
}

// Four signed bytes to two bf16 pairs. q ^ 0x80 = q + 128 in the low byte of 2^23 is an exact f32; so is the
// difference, whose 8 significant bits fit bf16.
DEV_INLINE void widen_bytes(std::uint32_t bytes, std::uint32_t& low, std::uint32_t& high) {
  const std::uint32_t biased = bytes ^ 0x80808080u;
  std::uint32_t f[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
    f[i] = __float_as_uint(__uint_as_float(__byte_perm(biased, 0x4b000000u, 0x7440u | i)) - 8388736.0f);
  low = __byte_perm(f[0], f[1], 0x7632);
  high = __byte_perm(f[2], f[3], 0x7632);
}

// The nibbles at bits [0, 4) and [16, 20) of `word`, and what `high` holds above them, to a bf16 pair, less
// `zero`: 0x4300 | q is 128 + q.
template <int kZero>
DEV_INLINE std::uint32_t widen_nibbles(std::uint32_t word, std::uint32_t high = 0) {
  const std::uint32_t biased = (word & 0x000f000fu) | (high & 0x00300030u) | 0x43004300u;
  return bits_as<std::uint32_t>(
      __hsub2(bits_as<__nv_bfloat162>(biased), __float2bfloat162_rn(128.0f + kZero)));
}

// The bf16 pairs of group j: columns c, c + 1; c + 2, c + 3; then two more, where x_fragment() finds them.
template <DType kType>
DEV_INLINE void widen(const RowWords<kType>& words, int j, std::uint32_t (&pairs)[4]) {
  if constexpr (kType == DType::kBF16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = words.of[i];
  } else if constexpr (kType == DType::kQ8_0) {
    widen_bytes(words.of[2 * j], pairs[0], pairs[1]);
    widen_bytes(words.of[2 * j + 1], pairs[2], pairs[3]);
  } else if constexpr (kType == DType::kQ6_K) {
    const std::uint32_t low = __byte_perm(words.of[j], 0, 0x4140), high = __byte_perm(words.of[j], 0, 0x4342);
    const std::uint32_t bits = __byte_perm(words.high[j / 2], 0, j % 2 == 0 ? 0x4140 : 0x4342);
    pairs[0] = widen_nibbles<32>(low, bits << 4);
    pairs[1] = widen_nibbles<32>(high, bits << 2);
    pairs[2] = widen_nibbles<32>(low >> 4, bits);
    pairs[3] = widen_nibbles<32>(high >> 4, bits >> 2);
  } else {
    constexpr int kZero = kType == DType::kQ4_0 ? 8 : 0;
    const std::uint32_t low = __byte_perm(words.of[j], 0, 0x4140), high = __byte_perm(words.of[j], 0, 0x4342);
    pairs[0] = widen_nibbles<kZero>(low);
    pairs[1] = widen_nibbles<kZero>(high);
    pairs[2] = widen_nibbles<kZero>(low >> 4);
    pairs[3] = widen_nibbles<kZero>(high >> 4);
  }
}

// The lane's 8 elements of one token's row over a chunk's group that starts at column `col`, zeros past the
// end; null: zeros.
template <DType kType>
DEV_INLINE uint4 x_fragment(const bf16* x, std::int64_t col, std::int64_t cols) {
  const int t = lane_index() % 4;
  uint4 pairs = make_uint4(0, 0, 0, 0);
  if constexpr (!kIsQuantized<kType>) {
    col += 8 * t;
    if (x != nullptr && col < cols) pairs = dev::ld_v4(x + col);
  } else if constexpr (kType == DType::kQ8_0) {
    if (x != nullptr && col < cols) pairs = dev::ld_v4(x + col + 16 * (t & 1) + 8 * (t >> 1));
  } else if (x != nullptr && col < cols) {
    const uint2 low = load_8_bytes(x + col + 4 * t), high = load_8_bytes(x + col + 16 + 4 * t);
    pairs = make_uint4(low.x, low.y, high.x, high.y);
  }
  return pairs;
}

/// 16 rows' elements of a group as the A operands of its two mma: words 0 and 2 are of row g, 1 and 3 of row
/// g + 8.
using RowOperands = std::uint32_t[2][4];

// d += the product of 16 rows with 8 tokens over one group.
DEV_INLINE void multiply_group(float (&d)[4], const RowOperands& rows, const uint4& x) {
  dev::mma_bf16_16816(d, rows[0], x.x, x.y);
  dev::mma_bf16_16816(d, rows[1], x.z, x.w);
}

// A pair of f16 to two pairs of bf16 whose sum they are, exactly (of finite ones).
DEV_INLINE void split_f16x2(std::uint32_t word, std::uint32_t& leading, std::uint32_t& rest) {
  const float2 f = unpack_f16x2(word);
  leading = __byte_perm(__float_as_uint(f.x), __float_as_uint(f.y), 0x7632);
  float low, high;
  unpack_bf16x2(leading, low, high);
  rest = __byte_perm(__float_as_uint(f.x - low), __float_as_uint(f.y - high), 0x7632);
}

/// 16 rows' elements of a group as a lane multiplies them, widened: `kParts` bf16 that sum to each.
template <DType kType>
struct RowFragment {
  static constexpr int kParts = kType == DType::kF16 ? 2 : 1;
  RowOperands parts[kParts];
};
/// Group j of a chunk: `low` and `high` are the exchanged words of the lane's rows.
template <DType kType>
DEV_INLINE RowFragment<kType> row_fragment(const RowWords<kType>& low, const RowWords<kType>& high, int j) {
  RowFragment<kType> rows;
  if constexpr (kType == DType::kF16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      split_f16x2(low.of[i], rows.parts[0][i / 2][i % 2 * 2], rows.parts[1][i / 2][i % 2 * 2]);
      split_f16x2(high.of[i], rows.parts[0][i / 2][i % 2 * 2 + 1], rows.parts[1][i / 2][i % 2 * 2 + 1]);
    }
  } else {
    std::uint32_t pairs[2][4];
    widen<kType>(low, j, pairs[0]);
    widen<kType>(high, j, pairs[1]);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) rows.parts[0][i / 2][i % 2 * 2 + half] = pairs[half][i];
  }
  return rows;
}

/// 8 tokens' elements of a group as a lane multiplies them, lane (g, t) those of token g. Where there are
/// minima also their sums over the group, laid out as products are.
struct TokenFragment {
  uint4 x;
  float sums[4];
};
template <DType kType>
DEV_INLINE TokenFragment token_fragment(const uint4& x) {
  TokenFragment tokens{x, {}};
  if constexpr (has_minimum(kType)) {
    constexpr std::uint32_t kOnes[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    dev::mma_bf16_16816(tokens.sums, kOnes, x.x, x.y);
    dev::mma_bf16_16816(tokens.sums, kOnes, x.z, x.w);
  }
  return tokens;
}

/// sum += rows times tokens over a group whose scale and minimum, or two scales, are `scales`: of row g, of
/// row g + 8. Elements: (row g, tokens 2 t and 2 t + 1), then row g + 8. Only quantised types read scales.
template <DType kType>
DEV_INLINE void add_product(float (&sum)[4], const RowFragment<kType>& rows, const TokenFragment& tokens,
                            const float2 (&scales)[2]) {
  if constexpr (kType == DType::kQ6_K) {
    float first[4] = {}, second[4] = {};
    dev::mma_bf16_16816(first, rows.parts[0][0], tokens.x.x, tokens.x.y);
    dev::mma_bf16_16816(second, rows.parts[0][1], tokens.x.z, tokens.x.w);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] += scales[e / 2].x * first[e] + scales[e / 2].y * second[e];
  } else if constexpr (kIsQuantized<kType>) {
    float product[4] = {};
    multiply_group(product, rows.parts[0], tokens.x);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sum[e] += scales[e / 2].x * product[e];
      if constexpr (has_minimum(kType)) sum[e] += scales[e / 2].y * tokens.sums[e];
    }
  } else {
#pragma unroll
    for (int part = 0; part < RowFragment<kType>::kParts; ++part)
      multiply_group(sum, rows.parts[part], tokens.x);
  }
}

/// A lane's word of the scales of a row's chunk that holds its own group, whose first column is element
/// `element` of the matrix.
template <DType kType>
DEV_INLINE std::uint32_t load_scale_word(const WeightArrays& weight, std::int64_t element) {
  const std::int64_t group = element / kGroup, super_group = element / kSuperGroup;
  if constexpr (kType == DType::kQ4_1) {
    return reinterpret_cast<const std::uint32_t*>(weight.scales)[group];
  } else if constexpr (kType == DType::kQ4_K) {
    return reinterpret_cast<const std::uint32_t*>(weight.scales)[4 * super_group + lane_index() % 4];
  } else if constexpr (kType == DType::kQ6_K) {
    const std::uint32_t d = reinterpret_cast<const std::uint16_t*>(weight.supers)[super_group];
    return reinterpret_cast<const std::uint16_t*>(weight.scales)[group] | d << 16;
  } else {
    return reinterpret_cast<const std::uint16_t*>(weight.scales)[group];
  }
}

/// Q6_K's two scales of a group, from its word.
DEV_INLINE float2 q6_k_scales(std::uint32_t word) {
  const float d = unpack_f16x2(word).y;
  return make_float2(d * static_cast<float>(static_cast<std::int8_t>(word)),
                     d * static_cast<float>(static_cast<std::int8_t>(word >> 8)));
}

/// The scales of a row's chunk, once lanes have exchanged what they share.
template <DType kType>
struct ChunkScales {
  std::uint32_t words[kType == DType::kQ4_K ? 3 : 1];
};
/// `odd`: whether the chunk is the second half of 256 columns.
template <DType kType>
DEV_INLINE ChunkScales<kType> exchange_scales(std::uint32_t word, bool odd) {
  if constexpr (kType == DType::kQ4_K) {
    const int lane = lane_index() / 4 * 4;
    const std::uint32_t high = __shfl_sync(kAllLanes, word, lane + 3);
    return {{__shfl_sync(kAllLanes, word, lane), __shfl_sync(kAllLanes, word, lane + (odd ? 2 : 1)),
             odd ? high >> 16 : high}};
  } else {
    return {{word}};
  }
}
/// Of group j: scale and minimum, or Q6_K's two scales.
template <DType kType>
DEV_INLINE float2 group_scales(const ChunkScales<kType>& scales, int j) {
  if constexpr (kType == DType::kQ4_K) {
    return q4_k_scales(scales.words[0], scales.words[1], scales.words[2], j);
  } else {
    constexpr int kGroups = kChunkColumns<kType> / kGroup;
    const int owner = lane_index() / 4 * 4 + j * (4 / kGroups);  // the lane that loaded the group's
    const std::uint32_t word = __shfl_sync(kAllLanes, scales.words[0], owner);
    return kType == DType::kQ6_K ? q6_k_scales(word) : unpack_f16x2(word);
  }
}

/// The matrix row of row `row` of a tile of 16: with kSiluMul 8 rows of gate, then their rows of up. Rows
/// past the end repeat the last.
template <Epilogue kEpilogue>
DEV_INLINE std::int64_t weight_row(std::int64_t tile, int row, std::int64_t n_cols) {
  if constexpr (kEpilogue == Epilogue::kSiluMul) {
    const std::int64_t output = tile * 8 + row % 8;
    return (output < n_cols ? output : n_cols - 1) + row / 8 * n_cols;
  } else {
    const std::int64_t output = tile * kTileRows + row;
    return output < n_cols ? output : n_cols - 1;
  }
}

}  // namespace redline::cuda
