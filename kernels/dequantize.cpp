// How the blocks of every type are read. A block's elements are numbered within the block; "plane" i of
// packed 2-bit or 1-bit fields is bits 2 i .. of each byte.
#include "kernels/convert.h"

namespace redline {
namespace {

int byte_at(const std::byte* p, int i) { return std::to_integer<int>(p[i]); }
int bits_at(const std::byte* p, int i, int shift, int mask) { return byte_at(p, i) >> shift & mask; }
float half_at(const std::byte* p, int i) { return f16_to_f32(load_u16(p + i)); }

// Element i of 32 whose nibbles lie as element j low, element j + 16 high in byte j.
int nibble_of_32(const std::byte* quants, int i) { return bits_at(quants, i % 16, i < 16 ? 0 : 4, 15); }

// Element i of 256 whose nibbles lie by 64: 32 low nibbles, then the high ones of the same bytes.
int nibble_of_256(const std::byte* quants, int i) {
  return bits_at(quants, i / 64 * 32 + i % 32, i % 64 < 32 ? 0 : 4, 15);
}

// Element i of 256 whose 2-bit fields lie by 128: 32 bytes, planes 0 to 3.
int pair_of_256(const std::byte* quants, int i) {
  return bits_at(quants, i / 128 * 32 + i % 32, i / 32 % 4 * 2, 3);
}

// Element i of 256 whose bits lie in 32 bytes, planes 0 to 7.
int bit_of_256(const std::byte* quants, int i) { return bits_at(quants, i % 32, i / 32, 1); }

template <DType kType>
struct Block;

template <>
struct Block<DType::kQ8_0> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + i]));
  }
};

template <>
struct Block<DType::kQ4_0> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble_of_32(block + 2, i) - 8);
  }
};

template <>
struct Block<DType::kQ4_1> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0), m = half_at(block, 2);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble_of_32(block + 4, i)) + m;
  }
};

// Fifth bits: element i's is bit i of a 32-bit word.
template <>
struct Block<DType::kQ5_0> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 32; ++i) {
      const int q = nibble_of_32(block + 6, i) | bits_at(block + 2, i / 8, i % 8, 1) << 4;
      out[i] = d * static_cast<float>(q - 16);
    }
  }
};

template <>
struct Block<DType::kQ5_1> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0), m = half_at(block, 2);
    for (int i = 0; i < 32; ++i) {
      const int q = nibble_of_32(block + 8, i) | bits_at(block + 4, i / 8, i % 8, 1) << 4;
      out[i] = d * static_cast<float>(q) + m;
    }
  }
};

// 16 bytes of (minimum, scale) nibbles, 64 of 2-bit values, d, m.
template <>
struct Block<DType::kQ2_K> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 80), m = half_at(block, 82);
    for (int i = 0; i < 256; ++i) {
      const float scale = d * static_cast<float>(bits_at(block, i / 16, 0, 15));
      const float minimum = m * static_cast<float>(bits_at(block, i / 16, 4, 15));
      out[i] = scale * static_cast<float>(pair_of_256(block + 16, i)) - minimum;
    }
  }
};

// 32 bytes of third bits (0 subtracts 4), 64 of 2-bit values, 12 of scales, d. A scale's low four bits are a
// nibble of bytes 0 to 7, its high two a field of bytes 8 to 11.
template <>
struct Block<DType::kQ3_K> {
  static void read(const std::byte* block, float* out) {
    const std::byte* scales = block + 96;
    const float d = half_at(block, 108);
    for (int i = 0; i < 256; ++i) {
      const int g = i / 16;
      const int s = bits_at(scales, g % 8, g / 8 * 4, 15) | bits_at(scales, 8 + g % 4, g / 4 * 2, 3) << 4;
      const int q = pair_of_256(block + 32, i) - (bit_of_256(block, i) ? 0 : 4);
      out[i] = d * static_cast<float>(s - 32) * static_cast<float>(q);
    }
  }
};

// Q4_K's and Q5_K's 6-bit scale and minimum of group g of 8, in 12 bytes.
struct ScaleAndMinimum {
  ScaleAndMinimum(const std::byte* packed, int g) {
    if (g < 4) {
      scale = static_cast<float>(bits_at(packed, g, 0, 63));
      minimum = static_cast<float>(bits_at(packed, g + 4, 0, 63));
    } else {
      scale = static_cast<float>(bits_at(packed, g + 4, 0, 15) | bits_at(packed, g - 4, 6, 3) << 4);
      minimum = static_cast<float>(bits_at(packed, g + 4, 4, 15) | bits_at(packed, g, 6, 3) << 4);
    }
  }
  float scale, minimum;
};

// d, m, 12 bytes of scales and minima, for Q5_K 32 of fifth bits, 128 of nibbles.
template <bool kFifthBits>
void read_q4_k_or_q5_k(const std::byte* block, float* out) {
  const float d = half_at(block, 0), m = half_at(block, 2);
  const std::byte* quants = block + 16 + (kFifthBits ? 32 : 0);
  for (int g = 0; g < 8; ++g) {
    const ScaleAndMinimum packed(block + 4, g);
    const float scale = d * packed.scale, minimum = m * packed.minimum;
    for (int i = 32 * g; i < 32 * (g + 1); ++i) {
      const int q = nibble_of_256(quants, i) | (kFifthBits ? bit_of_256(block + 16, i) << 4 : 0);
      out[i] = scale * static_cast<float>(q) - minimum;
    }
  }
}
template <>
struct Block<DType::kQ4_K> {
  static void read(const std::byte* block, float* out) { read_q4_k_or_q5_k<false>(block, out); }
};
template <>
struct Block<DType::kQ5_K> {
  static void read(const std::byte* block, float* out) { read_q4_k_or_q5_k<true>(block, out); }
};

// 128 bytes of nibbles by 128 elements (64 low, 64 high), 64 of high 2-bit fields, 16 int8 scales, d.
template <>
struct Block<DType::kQ6_K> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 208);
    for (int i = 0; i < 256; ++i) {
      const int low = bits_at(block, i / 128 * 64 + i % 64, i % 128 < 64 ? 0 : 4, 15);
      const int q = (low | pair_of_256(block + 128, i) << 4) - 32;
      const float scale = d * static_cast<float>(static_cast<std::int8_t>(block[192 + i / 16]));
      out[i] = scale * static_cast<float>(q);
    }
  }
};

template <>
struct Block<DType::kIQ4_NL> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(kIq4Values[nibble_of_32(block + 2, i)]);
  }
};

// d, 2 bytes of the scales' high 2-bit fields, 4 of their low nibbles, then 8 times 32 nibbles.
template <>
struct Block<DType::kIQ4_XS> {
  static void read(const std::byte* block, float* out) {
    const float d = half_at(block, 0);
    for (int g = 0; g < 8; ++g) {
      const int s = bits_at(block + 4, g / 2, g % 2 * 4, 15) | bits_at(block + 2, g / 4, g % 4 * 2, 3) << 4;
      const float scale = d * static_cast<float>(s - 32);
      for (int i = 0; i < 32; ++i)
        out[32 * g + i] = scale * static_cast<float>(kIq4Values[nibble_of_32(block + 8 + 16 * g, i)]);
    }
  }
};

template <>
struct Block<DType::kMXFP4> {
  static void read(const std::byte* block, float* out) {
    const float d = mxfp4_scale(std::to_integer<std::uint8_t>(block[0]));
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(kMxfp4Values[nibble_of_32(block + 1, i)]);
  }
};

template <>
struct Block<DType::kF8E4M3> {
  static void read(const std::byte* block, float* out) {
    float scale;
    std::memcpy(&scale, block, sizeof scale);
    for (int i = 0; i < 128; ++i) out[i] = scale * e4m3_to_f32(std::to_integer<std::uint8_t>(block[4 + i]));
  }
};

template <DType kType>
void read_blocks(const std::byte* row, std::int64_t n, float* out) {
  constexpr DTypeTraits kTraits = traits(kType);
  for (std::int64_t i = 0; i < n; i += kTraits.block_elements, row += kTraits.block_bytes)
    Block<kType>::read(row, out + i);
}

}  // namespace

void dequantize_row(DType dtype, const std::byte* row, std::int64_t n, float* out) {
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, row, static_cast<std::size_t>(n) * sizeof *out);
      return;
    case DType::kF16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = f16_to_f32(load_u16(row + 2 * i));
      return;
    case DType::kBF16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load_u16(row + 2 * i));
      return;
    case DType::kQ8_0:
      return read_blocks<DType::kQ8_0>(row, n, out);
    case DType::kQ4_0:
      return read_blocks<DType::kQ4_0>(row, n, out);
    case DType::kQ4_1:
      return read_blocks<DType::kQ4_1>(row, n, out);
    case DType::kQ5_0:
      return read_blocks<DType::kQ5_0>(row, n, out);
    case DType::kQ5_1:
      return read_blocks<DType::kQ5_1>(row, n, out);
    case DType::kQ2_K:
      return read_blocks<DType::kQ2_K>(row, n, out);
    case DType::kQ3_K:
      return read_blocks<DType::kQ3_K>(row, n, out);
    case DType::kQ4_K:
      return read_blocks<DType::kQ4_K>(row, n, out);
    case DType::kQ5_K:
      return read_blocks<DType::kQ5_K>(row, n, out);
    case DType::kQ6_K:
      return read_blocks<DType::kQ6_K>(row, n, out);
    case DType::kIQ4_NL:
      return read_blocks<DType::kIQ4_NL>(row, n, out);
    case DType::kIQ4_XS:
      return read_blocks<DType::kIQ4_XS>(row, n, out);
    case DType::kMXFP4:
      return read_blocks<DType::kMXFP4>(row, n, out);
    case DType::kF8E4M3:
      return read_blocks<DType::kF8E4M3>(row, n, out);
  }
}

}  // namespace redline
