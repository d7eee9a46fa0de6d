// How a vector unit reads panels of each quantised type (panel_layout.h): codes of a quad, scales and minima.
// Included only by matrix_*_avx2.cpp and matrix_*_avx512.cpp; internal linkage throughout.
//
// I is the instruction set's vectors of 32-bit lanes, each lane one row's; a panel is two of them wide:
//   kWidth, Int, Float, load, broadcast, shift_left, shift_right (logical), sign_extend_byte (the lowest),
//   bit_and, bit_or, add, look_up (bytes among 16), as_float (the same bits), half_of, load_halves (to f32),
//   load_u16 and load_u8 (to 32 bits)
#pragma once

#include "kernels/convert.h"
#include "kernels/cpu/panel_layout.h"

namespace redline::cpu {
namespace {

// Tables of this translation unit's own.
struct Table16 {
  constexpr Table16(const int8_t* values, int add) {
    for (int i = 0; i < 16; ++i) codes[i] = static_cast<int8_t>(values[i] + add);
  }
  alignas(16) int8_t codes[16]{};
};
constexpr Table16 kIq4Codes(kIq4Values, 0), kMxfp4Codes(kMxfp4Values, 12);

template <class I, DType kCodecType>
struct Codec {
  using Int = typename I::Int;
  using Float = typename I::Float;
  using Unit = PanelUnit<kCodecType>;

  static constexpr DType kType = kCodecType;
  static constexpr bool is(auto... types) { return ((kType == types) || ...); }

  static constexpr int kRows = 2 * I::kWidth;
  static constexpr int kUnitBytes = kRows * Unit::kBytes;
  static constexpr int kSubblocks = Unit::kSubblocks;

  /// A weight is (d s) (code - kOffset) + kMinimum (m t): s and t integers of its group of k, s = t = 1 where
  /// the type has none. Codes are unsigned bytes up to kMaxCode, or signed ones.
  static constexpr bool kIsSigned = is(DType::kQ8_0, DType::kIQ4_NL, DType::kIQ4_XS);
  static constexpr int kOffset = is(DType::kQ4_0)    ? 8
                                 : is(DType::kQ5_0)  ? 16
                                 : is(DType::kQ3_K)  ? 4
                                 : is(DType::kQ6_K)  ? 32
                                 : is(DType::kMXFP4) ? 12
                                                     : 0;
  static constexpr int kMinimum = is(DType::kQ4_1, DType::kQ5_1)                 ? 1
                                  : is(DType::kQ2_K, DType::kQ4_K, DType::kQ5_K) ? -1
                                                                                 : 0;
  static constexpr int kMaxCode =
      is(DType::kMXFP4)
          ? 24
          : (Unit::kNibbleLanes ? 16 : 1) * (Unit::kPairLanes ? 4 : 1) * (Unit::kBitLanes ? 2 : 1) - 1;
  static constexpr bool kHasScales = Unit::kScaleLanes > 0;
  static constexpr int kGroup = is(DType::kQ2_K, DType::kQ3_K, DType::kQ6_K) ? 16 : 32;

  static Float d(const std::byte* unit, int v) {
    // 2^(e - 128); e = 0 counts as 0 and e = 255, no number in the format's specification, as infinity.
    if constexpr (is(DType::kMXFP4))
      return I::half_of(I::as_float(I::shift_left(I::load_u8(unit + v * I::kWidth), 23)));
    return I::load_halves(unit + 2 * v * I::kWidth);
  }
  static Float m(const std::byte* unit, int v) { return I::load_halves(unit + 2 * (kRows + v * I::kWidth)); }

  /// s of group g of the unit.
  static Int scale(const std::byte* unit, int g, int v) {
    if constexpr (is(DType::kQ2_K)) return bits(unit, g / 4, v, g % 4 * 8, 15);
    if constexpr (is(DType::kQ6_K))
      return I::sign_extend_byte(I::shift_right(lane(unit, g / 4, v), g % 4 * 8));
    if constexpr (is(DType::kQ4_K, DType::kQ5_K)) {
      if (g < 4) return bits(unit, 0, v, 8 * g, 63);
      return with_high(bits(unit, 2, v, 8 * (g - 4), 15), bits(unit, 0, v, 8 * (g - 4) + 6, 3));
    }
    if constexpr (is(DType::kQ3_K))
      return less_32(with_high(bits(unit, g % 8 / 4, v, g % 4 * 8 + g / 8 * 4, 15),
                               bits(unit, 2, v, g % 4 * 8 + g / 4 * 2, 3)));
    if constexpr (is(DType::kIQ4_XS)) {
      const Int high = I::load_u16(unit + 2 * (kRows + v * I::kWidth));
      return less_32(
          with_high(bits(unit, 0, v, 4 * g, 15), I::bit_and(I::shift_right(high, 2 * g), I::broadcast(3))));
    }
  }
  /// t of group g of the unit.
  static Int minimum(const std::byte* unit, int g, int v) {
    if constexpr (is(DType::kQ2_K)) return bits(unit, g / 4, v, g % 4 * 8 + 4, 15);
    if constexpr (is(DType::kQ4_K, DType::kQ5_K)) {
      if (g < 4) return bits(unit, 1, v, 8 * g, 63);
      return with_high(bits(unit, 2, v, 8 * (g - 4) + 4, 15), bits(unit, 1, v, 8 * (g - 4) + 6, 3));
    }
  }

  /// The codes of quad q of subblock s: four bytes in each row's lane.
  static Int quad(const std::byte* unit, int s, int q, int v) {
    const int first = Unit::kScaleLanes + s * Unit::kSubblockLanes;
    if constexpr (Unit::kByteLanes > 0) return lane(unit, first + q, v);
    constexpr int kPairs = Unit::kBitLanes, kNibbles = kPairs + Unit::kPairLanes;
    constexpr int kAbove = Unit::kNibbleLanes > 0 ? 4 : 0;  // where pairs belong in a code
    Int code{};
    if constexpr (Unit::kNibbleLanes > 0)
      code = bits(unit, first + kNibbles + q / 2, v, q % 2 * 4, 0x0f0f0f0f);
    if constexpr (Unit::kPairLanes > 0) {
      const Int pairs = moved(lane(unit, first + kPairs + q / 4, v), q % 4 * 2, kAbove, 0x03030303);
      code = kAbove ? I::bit_or(code, pairs) : pairs;
    }
    if constexpr (Unit::kBitLanes > 0)
      code = I::bit_or(
          code, moved(lane(unit, first, v), q, Unit::kPairLanes > 0 ? kAbove + 2 : kAbove, 0x01010101));
    if constexpr (is(DType::kIQ4_NL, DType::kIQ4_XS)) code = I::look_up(kIq4Codes.codes, code);
    if constexpr (is(DType::kMXFP4)) code = I::look_up(kMxfp4Codes.codes, code);
    return code;
  }

 private:
  static Int lane(const std::byte* unit, int index, int v) {
    return I::load(unit + kRows * Unit::kHeaderBytes + 4 * (index * kRows + v * I::kWidth));
  }
  static Int bits(const std::byte* unit, int index, int v, int shift, int mask) {
    return I::bit_and(I::shift_right(lane(unit, index, v), shift), I::broadcast(mask));
  }
  // The bits of `mask` at `from`, moved to `to`.
  static Int moved(Int x, int from, int to, int mask) {
    x = from < to ? I::shift_left(x, to - from) : I::shift_right(x, from - to);
    return I::bit_and(x, I::broadcast(mask << to));
  }
  static Int with_high(Int low, Int high) { return I::bit_or(low, I::shift_left(high, 4)); }
  static Int less_32(Int x) { return I::add(x, I::broadcast(-32)); }
};

}  // namespace
}  // namespace redline::cpu
