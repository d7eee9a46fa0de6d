#include "kernels/cpu/panel_layout.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

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

template <class Element>
void pack_elements(const PanelFormat& format, std::byte* panel, const std::byte* const* rows,
                   std::int64_t k) {
  constexpr std::int64_t kPiece = 64;  // of k: a piece of every row stays in L1
  auto* out = reinterpret_cast<Element*>(panel);
  std::fill(out + element_index(format, std::max<std::int64_t>(k - 1, 0), 0),
            out + padded_k(format, k) * format.rows, Element{});
  for (std::int64_t k0 = 0; k0 < k; k0 += kPiece)
    for (int r = 0; r < format.rows; ++r)
      for (std::int64_t i = k0; i < std::min(k, k0 + kPiece); ++i) {
        Element e{};
        if (rows[r]) std::memcpy(&e, rows[r] + i * static_cast<std::int64_t>(sizeof e), sizeof e);
        out[element_index(format, i, r)] = e;
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
  for (int i = 0; i < kFields<kType>.count; ++i) {
    const Field& f = kFields<kType>.fields[i];
    lanes[f.lane] |= (load_u32(block + f.at) >> f.shift & of_each_byte(f.mask)) << f.lane_shift;
  }
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
  if (format.dtype == DType::kF32) return pack_elements<std::uint32_t>(format, panel, rows, k);
  if (!is_quantized(format.dtype)) return pack_elements<std::uint16_t>(format, panel, rows, k);
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
