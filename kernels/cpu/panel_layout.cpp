#include "kernels/cpu/panel_layout.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/convert.h"

namespace redline::cpu {
namespace {

std::int64_t padded_k(const PanelFormat& format, std::int64_t k) {
  return format.k_pairs ? (k + 1) / 2 * 2 : k;
}

// Where element (k, row) of a float panel lies, in elements.
std::int64_t element_index(const PanelFormat& format, std::int64_t k, std::int64_t row) {
  return format.k_pairs ? (k / 2 * format.rows + row) * 2 + k % 2 : k * format.rows + row;
}

// to[i][r] = from[r][i] for a square whose rows are 16 bytes: as many interleavings as its side has bits.
template <class Element>
inline void transpose_square(Element* to, std::int64_t stride, const std::byte* const* from,
                             std::int64_t at) {
  constexpr int kSide = 16 / sizeof(Element);
  typedef Element Vector __attribute__((vector_size(16)));
  Vector rows[kSide], next[kSide];
#pragma GCC unroll 8
  for (int r = 0; r < kSide; ++r) std::memcpy(&rows[r], from[r] + at, 16);
#pragma GCC unroll 3
  for (int bits = 1; bits < kSide; bits *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < kSide / 2; ++i) {
      const Vector a = rows[i], b = rows[i + kSide / 2];
      if constexpr (kSide == 8) {
        next[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        next[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
      } else {
        next[2 * i] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        next[2 * i + 1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSide; ++i) rows[i] = next[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < kSide; ++i) std::memcpy(to + i * stride, &rows[i], 16);
}

// panel[length][num_rows] of elements; num_rows is a multiple of a square's side. A cache line of a few rows
// at a time: rows a power of two apart fight for the same cache set.
template <class Element>
void transpose_rows(Element* panel, const std::byte* const* rows, int num_rows, std::int64_t length) {
  constexpr std::int64_t kSize = sizeof(Element), kSide = 16 / kSize, kLine = 64 / kSize, kAhead = 1024;
  const std::int64_t squares = length / kSide * kSide;
  for (std::int64_t line = 0; line < squares; line += kLine)
    for (int r0 = 0; r0 < num_rows; r0 += static_cast<int>(kSide)) {
      for (int r = 0; r < kSide; ++r) __builtin_prefetch(rows[r0 + r] + line * kSize + kAhead);
      for (std::int64_t i = line; i < std::min(line + kLine, squares); i += kSide)
        transpose_square(panel + i * num_rows + r0, num_rows, rows + r0, i * kSize);
    }
  for (std::int64_t i = squares; i < length; ++i)
    for (int r = 0; r < num_rows; ++r) std::memcpy(panel + i * num_rows + r, rows[r] + i * kSize, kSize);
}

// Pairs of k move as one element; an odd last k is paired with a zero. Absent rows are zeros.
void pack_elements(const PanelFormat& format, std::byte* panel, const std::byte* const* rows,
                   std::int64_t k) {
  std::vector<std::byte> zeros;
  const std::byte* present[kMaxPanelRows];
  for (int r = 0; r < format.rows; ++r) {
    if (!rows[r]) zeros.resize(static_cast<std::size_t>(row_bytes(format.dtype, k)));
    present[r] = rows[r] ? rows[r] : zeros.data();
  }
  if (format.dtype != DType::kF32 && !format.k_pairs)
    return transpose_rows(reinterpret_cast<std::uint16_t*>(panel), present, format.rows, k);
  const std::int64_t elements = format.k_pairs ? k / 2 : k;
  transpose_rows(reinterpret_cast<std::uint32_t*>(panel), present, format.rows, elements);
  if (padded_k(format, k) == k) return;
  for (int r = 0; r < format.rows; ++r) {
    std::uint32_t pair = 0;
    std::memcpy(&pair, present[r] + 4 * elements, 2);
    std::memcpy(panel + 4 * (elements * format.rows + r), &pair, 4);
  }
}

// Four consecutive bytes of a block, `mask` of each after a shift, and where a lane holds them.
struct Field {
  std::int16_t at;
  std::int8_t shift;
  std::uint8_t mask;
  std::int8_t lane, lane_shift;
};

// Where a block holds what its panel holds elsewhere; dequantize.cpp tells what it means.
template <DType kType>
struct BlockFields {
  using Unit = PanelUnit<kType>;
  static constexpr bool is(auto... types) { return ((kType == types) || ...); }

  static constexpr int kHeaderAt = is(DType::kQ2_K)   ? 80
                                   : is(DType::kQ3_K) ? 108
                                   : is(DType::kQ6_K) ? 208
                                                      : 0;
  static constexpr int kScalesAt = is(DType::kQ2_K) ? 0 : is(DType::kQ3_K) ? 96 : is(DType::kQ6_K) ? 192 : 4;
  static constexpr int kQuantsAt = is(DType::kQ2_K)                 ? 16
                                   : is(DType::kQ3_K)               ? 32
                                   : is(DType::kQ6_K)               ? 0
                                   : is(DType::kQ5_0, DType::kQ5_1) ? Unit::kHeaderBytes + 4
                                   : is(DType::kQ4_K)               ? 16
                                   : is(DType::kQ5_K)               ? 48
                                   : is(DType::kIQ4_XS)             ? 8
                                                                    : Unit::kHeaderBytes;
  static constexpr int kPairsAt = is(DType::kQ6_K) ? 128 : kQuantsAt;
  static constexpr int kBitsAt = is(DType::kQ3_K) ? 0 : 16;  // of K types
  // The 32-bit word of Q5_0 and Q5_1 whose bit i is element i's.
  static constexpr bool kHasBitWord = is(DType::kQ5_0, DType::kQ5_1);
  static constexpr int kBitWordAt = Unit::kHeaderBytes;

  // Byte and shift of the nibbles of quad q in subblock s.
  static constexpr int nibbles_at(int s, int q) {
    const int e = 32 * s + 4 * q;
    if (is(DType::kQ4_K, DType::kQ5_K)) return kQuantsAt + e / 64 * 32 + e % 32;
    if (is(DType::kQ6_K)) return kQuantsAt + e / 128 * 64 + e % 64;
    return kQuantsAt + 16 * s + e % 16;
  }
  static constexpr int nibbles_shift(int s, int q) {
    const int e = 32 * s + 4 * q;
    const int half = is(DType::kQ4_K, DType::kQ5_K) ? 32 : is(DType::kQ6_K) ? 64 : 16;
    return e / half % 2 * 4;
  }

  struct List {
    Field fields[Unit::kScaleLanes + Unit::kSubblocks * 24];
    int count = 0;
    constexpr void add(int at, int shift, int mask, int lane, int lane_shift) {
      fields[count++] = {static_cast<std::int16_t>(at), static_cast<std::int8_t>(shift),
                         static_cast<std::uint8_t>(mask), static_cast<std::int8_t>(lane),
                         static_cast<std::int8_t>(lane_shift)};
    }
  };
  static constexpr List list() {
    List list{};
    for (int l = 0; l < Unit::kScaleLanes; ++l) list.add(kScalesAt + 4 * l, 0, 255, l, 0);
    for (int s = 0; s < Unit::kSubblocks; ++s) {
      int lane = Unit::kScaleLanes + s * Unit::kSubblockLanes;
      for (int q = 0; q < 8; ++q) {
        const int e = 32 * s + 4 * q;
        if (Unit::kBitLanes && !kHasBitWord) list.add(kBitsAt + e % 32, e / 32, 1, lane, q);
        const int pairs = lane + Unit::kBitLanes, nibbles = pairs + Unit::kPairLanes;
        if (Unit::kPairLanes)
          list.add(kPairsAt + e / 128 * 32 + e % 32, e / 32 % 4 * 2, 3, pairs + q / 4, q % 4 * 2);
        if (Unit::kNibbleLanes)
          list.add(nibbles_at(s, q), nibbles_shift(s, q), 15, nibbles + q / 2, q % 2 * 4);
        if (Unit::kByteLanes) list.add(kQuantsAt + e, 0, 255, lane + q, 0);
      }
    }
    return list;
  }
};

template <DType kType>
constexpr auto kFields = BlockFields<kType>::list();

std::uint32_t load_u32(const std::byte* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}
void store_u32(std::byte* to, std::uint32_t word) { std::memcpy(to, &word, sizeof word); }
constexpr std::uint32_t of_each_byte(std::uint8_t mask) { return mask * 0x01010101u; }

template <DType kType>
constexpr int kNumLanes =
    PanelUnit<kType>::kScaleLanes + PanelUnit<kType>::kSubblocks* PanelUnit<kType>::kSubblockLanes;

template <DType kType>
void lanes_of_block(const std::byte* block, std::uint32_t (&lanes)[kNumLanes<kType>]) {
  std::fill_n(lanes, kNumLanes<kType>, 0u);
  // Unrolled by the compiler, each field's shifts are constants.
  [&]<std::size_t... kField>(std::index_sequence<kField...>) {
    const auto add = [&](auto field) {
      constexpr Field f = kFields<kType>.fields[field];
      lanes[f.lane] |= (load_u32(block + f.at) >> f.shift & of_each_byte(f.mask)) << f.lane_shift;
    };
    (add(std::integral_constant<std::size_t, kField>{}), ...);
  }
  (std::make_index_sequence<kFields<kType>.count>{});
  if constexpr (BlockFields<kType>::kHasBitWord) {
    const std::uint32_t word = load_u32(block + BlockFields<kType>::kBitWordAt);
    // The product spreads four bits to bits 0, 8, 16 and 24.
    for (int q = 0; q < 8; ++q) lanes[0] |= ((word >> 4 * q & 15) * 0x00204081u & 0x01010101u) << q;
  }
}

template <DType kType>
void block_of_lanes(const std::uint32_t (&lanes)[kNumLanes<kType>], std::byte* block) {
  std::memset(block, 0, PanelUnit<kType>::kBytes);
  for (int i = 0; i < kFields<kType>.count; ++i) {
    const Field& f = kFields<kType>.fields[i];
    store_u32(block + f.at, load_u32(block + f.at) | (lanes[f.lane] >> f.lane_shift & of_each_byte(f.mask))
                                                         << f.shift);
  }
  if constexpr (BlockFields<kType>::kHasBitWord) {
    std::uint32_t word = 0;
    // The product gathers bits 0, 8, 16 and 24 into its highest four.
    for (int q = 0; q < 8; ++q) word |= ((lanes[0] >> q & 0x01010101u) * 0x01020408u >> 24 & 15) << 4 * q;
    store_u32(block + BlockFields<kType>::kBitWordAt, word);
  }
}

// Calls copy(offset in the block, offset in the panel, bytes) for each field of a row's header.
template <DType kType, class Copy>
void for_each_header_field(int rows, int row, Copy&& copy) {
  constexpr int kHeader = PanelUnit<kType>::kHeaderBytes, kSize = kHeader == 1 ? 1 : 2;
  for (int h = 0; h < kHeader; h += kSize)
    copy(BlockFields<kType>::kHeaderAt + h, h * rows + row * kSize, std::size_t{kSize});
}

template <DType kType>
void pack_blocks(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k) {
  using Unit = PanelUnit<kType>;
  static constexpr std::byte kZero[Unit::kBytes] = {};
  for (std::int64_t b = 0; b < k / traits(kType).block_elements; ++b, panel += format.rows * Unit::kBytes)
    for (int r = 0; r < format.rows; ++r) {
      const std::byte* block = rows[r] ? rows[r] + b * Unit::kBytes : kZero;
      for_each_header_field<kType>(format.rows, r, [&](int in_block, int in_panel, std::size_t bytes) {
        std::memcpy(panel + in_panel, block + in_block, bytes);
      });
      std::uint32_t lanes[kNumLanes<kType>];
      lanes_of_block<kType>(block, lanes);
      std::byte* to = panel + format.rows * Unit::kHeaderBytes + 4 * r;
      for (const std::uint32_t lane : lanes) {
        store_u32(to, lane);
        to += 4 * format.rows;
      }
    }
}

// Puts each block back together, so that its meaning is written down once.
template <DType kType>
void unpack_blocks(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k, float* out) {
  using Unit = PanelUnit<kType>;
  constexpr int kElements = traits(kType).block_elements;
  for (std::int64_t b = 0; b < k / kElements; ++b, panel += format.rows * Unit::kBytes) {
    std::uint32_t lanes[kNumLanes<kType>];
    const std::byte* from = panel + format.rows * Unit::kHeaderBytes + 4 * row;
    for (std::uint32_t& lane : lanes) {
      lane = load_u32(from);
      from += 4 * format.rows;
    }
    std::byte block[Unit::kBytes];
    block_of_lanes<kType>(lanes, block);
    for_each_header_field<kType>(format.rows, row, [&](int in_block, int in_panel, std::size_t bytes) {
      std::memcpy(block + in_block, panel + in_panel, bytes);
    });
    dequantize_row(kType, block, kElements, out + kElements * b);
  }
}

// [block][row][bytes].
void pack_whole_blocks(const PanelFormat& format, std::byte* panel, const std::byte* const* rows,
                       std::int64_t k) {
  const int elements = traits(format.dtype).block_elements, bytes = traits(format.dtype).block_bytes;
  for (std::int64_t b = 0; b < k / elements; ++b)
    for (int r = 0; r < format.rows; ++r, panel += bytes) {
      if (rows[r])
        std::memcpy(panel, rows[r] + b * bytes, static_cast<std::size_t>(bytes));
      else
        std::memset(panel, 0, static_cast<std::size_t>(bytes));
    }
}

void unpack_whole_blocks(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k,
                         float* out) {
  const int elements = traits(format.dtype).block_elements, bytes = traits(format.dtype).block_bytes;
  for (std::int64_t b = 0; b < k / elements; ++b)
    dequantize_row(format.dtype, panel + (b * format.rows + row) * bytes, elements, out + b * elements);
}

// Calls body(tag) with the panel type of `dtype`.
template <class Body>
void with_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kQ8_0:
      return body(std::integral_constant<DType, DType::kQ8_0>{});
    case DType::kQ4_0:
      return body(std::integral_constant<DType, DType::kQ4_0>{});
    case DType::kQ4_1:
      return body(std::integral_constant<DType, DType::kQ4_1>{});
    case DType::kQ5_0:
      return body(std::integral_constant<DType, DType::kQ5_0>{});
    case DType::kQ5_1:
      return body(std::integral_constant<DType, DType::kQ5_1>{});
    case DType::kQ2_K:
      return body(std::integral_constant<DType, DType::kQ2_K>{});
    case DType::kQ3_K:
      return body(std::integral_constant<DType, DType::kQ3_K>{});
    case DType::kQ4_K:
      return body(std::integral_constant<DType, DType::kQ4_K>{});
    case DType::kQ5_K:
      return body(std::integral_constant<DType, DType::kQ5_K>{});
    case DType::kQ6_K:
      return body(std::integral_constant<DType, DType::kQ6_K>{});
    case DType::kIQ4_NL:
      return body(std::integral_constant<DType, DType::kIQ4_NL>{});
    case DType::kIQ4_XS:
      return body(std::integral_constant<DType, DType::kIQ4_XS>{});
    case DType::kMXFP4:
      return body(std::integral_constant<DType, DType::kMXFP4>{});
    default:
      REDLINE_CHECK(false, "a quantised type that has panels");
  }
}

}  // namespace

std::int64_t panel_bytes(const PanelFormat& format, std::int64_t k) {
  return format.rows * row_bytes(format.dtype, padded_k(format, k));
}

void pack_panel(const PanelFormat& format, std::byte* panel, const std::byte* const* rows, std::int64_t k) {
  if (format.whole_blocks) return pack_whole_blocks(format, panel, rows, k);
  if (!is_quantized(format.dtype)) return pack_elements(format, panel, rows, k);
  with_type(format.dtype, [&](auto type) { pack_blocks<type>(format, panel, rows, k); });
}

void unpack_panel_row(const PanelFormat& format, const std::byte* panel, int row, std::int64_t k,
                      float* out) {
  if (format.whole_blocks) return unpack_whole_blocks(format, panel, row, k, out);
  if (is_quantized(format.dtype))
    return with_type(format.dtype, [&](auto type) { unpack_blocks<type>(format, panel, row, k, out); });
  for (std::int64_t i = 0; i < k; ++i)
    dequantize_row(format.dtype, panel + row_bytes(format.dtype, element_index(format, i, row)), 1, out + i);
}

}  // namespace redline::cpu
